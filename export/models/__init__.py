"""One short file per paper. Importing a file registers its models."""

from export.models import bst, dien, din, dmin, dsin, eta, mean_pool, mimn, mind, sdim, sim, twin, twin_v2
from export.models.registry import build, list_models

__all__ = [
    "bst",
    "build",
    "dien",
    "din",
    "dmin",
    "dsin",
    "eta",
    "list_models",
    "mean_pool",
    "mimn",
    "mind",
    "sdim",
    "sim",
    "twin",
    "twin_v2",
]
