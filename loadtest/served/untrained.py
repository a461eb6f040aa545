"""Bundles with random weights by the real export path: what a graph or a search costs does not depend on their values."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from export.bundle import make_bundle
from export.data.dataset import Dataset
from export.models import build
from export.run import Run, data_shape
from store.bundle import MANIFEST, versions


def make_untrained(dataset: Dataset, name: str, config: Mapping[str, Any], seed: int, bundles: Path) -> None:
    """Write a bundle of a model; the same one each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(name, data_shape(dataset), **config).eval()
    facts = {"model": name, "base_rate": 0.1, "settings": {}, **model.settings(), "fingerprint": "made up"}
    with tempfile.TemporaryDirectory() as folder:
        make_bundle(dataset, Run(Path(folder), model, facts | {"impressions": 0, "seconds": 0.0}), bundles)


def is_made(model_folder: Path) -> bool:
    """Whether there is a finished version."""
    return any((model_folder / version / MANIFEST).is_file() for version in versions(model_folder))
