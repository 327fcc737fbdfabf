"""Autoencoders that predict chroma from lightness.

Each name is imported when it is asked for: the list of architectures is read without PyTorch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "architectures": ["Op", "Stage", "matched_ops", "published_ops"],
        "autoencoder": [
            "Autoencoder",
            "build",
            "build_for",
            "effective_receptive_field",
            "fold",
            "gradient_map",
        ],
        "layers": ["BlurPool", "Conv", "convolve_upsampled"],
    },
)
