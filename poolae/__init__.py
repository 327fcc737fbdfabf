"""What does pooling do to an autoencoder that colourises daisies?

`data` opens and splits the images: `sources` finds or `synthetic` draws them,
`decode` reads a file, `colour` converts, `cache` keeps. `models` makes the
networks, `train` and `runs` train and keep them. `metrics` and `baselines` score
them, `mixture` mixes them; `evaluate`, `statistics` and `ledger` compare and
judge, and `study` puts all of that together. `plots`, `prose`, `display`,
`explore` and `report` show it. `settings` holds what may be chosen.
"""

from poolae.errors import UserError
from poolae.settings import PROFILES, RECIPES, Settings, make_settings

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
        from poolae import runs

        return {"load_run": runs.load, "table_of_runs": runs.table}[name]
    raise AttributeError(f"module 'poolae' has no attribute {name!r}")
