"""What does pooling do to an autoencoder that colourises daisies?

Four rooms hold the science: `data` makes, decodes, keeps and splits the images, `models`
builds the networks, `train` trains them and keeps the runs, `metrics` scores and compares.
They import nothing of `paper`, which serves the report. `settings` holds what may be chosen;
begin with `train.loop`.
"""

from poolae.settings import PROFILES, RECIPES, Settings, UserError, make_settings

__all__ = [
    "PROFILES",
    "RECIPES",
    "Settings",
    "UserError",
    "load_run",
    "make_settings",
    "table_of_runs",
]


def __getattr__(name: str):
    """Import what needs NumPy and pandas only when it is asked for."""
    if name in ("load_run", "table_of_runs"):
        from poolae.train import runs

        return {"load_run": runs.load, "table_of_runs": runs.table}[name]
    raise AttributeError(f"module 'poolae' has no attribute {name!r}")
