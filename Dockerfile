# JupyterLab on the checkout, with the environment of `make`, which makes every other target too:
#   docker build -t poolae . && docker run --rm -p 8888:8888 poolae
#   mkdir -p build && docker run --rm -v "$PWD/build:/home/poolae/checkout/build" poolae make report
FROM python:3.11-slim

RUN apt-get update \
 && apt-get install -y --no-install-recommends git make \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 1000 poolae
USER poolae
WORKDIR /home/poolae/checkout
ENV PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu PIP_NO_CACHE_DIR=1

# The packages before the code, so that a change in the code installs nothing again.
COPY --chown=poolae Makefile environment.yml requirements.lock pyproject.toml ./
COPY --chown=poolae poolae/__init__.py poolae/
RUN make environment
COPY --chown=poolae . .

EXPOSE 8888
CMD ["make", "lab", "LABFLAGS=--ip=0.0.0.0 --no-browser"]
