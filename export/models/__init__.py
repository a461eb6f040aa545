"""One short file per paper. Importing a file registers its models."""

from export.models import din, eta, sim, twin
from export.models.registry import build, list_models

__all__ = ["build", "din", "eta", "list_models", "sim", "twin"]
