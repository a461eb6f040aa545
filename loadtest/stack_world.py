"""What the stack is tested with: complete_journey, a bundle of every model by the real export path, and requests for locust.

Weights are random: the stack is tested here, not how well a model ranks. What is in the folder is used again.

    runs/stack/runs/data/complete_journey/    the prepared data set
    runs/stack/runs/workload.json
    runs/stack/bundles/<model>/<version>/
"""

import shutil
import tempfile
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track

from export.bundle import make_bundle
from export.data.dataset import Dataset
from export.data.prepare import prepare
from export.models import build, list_models
from export.run import Run, data_shape
from loadtest.workload import make_workload, write_workload
from store.bundle import MANIFEST, versions
from store.load import Prepared

DATA, SEED = "complete_journey", 23
USERS, CANDIDATES = 100, 200  # of the requests


def make_stack_world(folder: Path, console: Console) -> Path:
    """The folder with everything in it. Cost: a minute of one core the first time."""
    dataset = prepare(DATA, into=folder / "runs/data")
    missing = [name for name in list_models() if not _finished(folder / "bundles" / name)]
    with tempfile.TemporaryDirectory() as work:
        for name in track(missing, "   bundles", console=console):
            shutil.rmtree(folder / "bundles" / name, ignore_errors=True)
            make_bundle(dataset, _untrained(dataset, name, Path(work)), folder / "bundles")
    workload = folder / "runs/workload.json"
    if not workload.exists():
        write_workload(make_workload(Prepared.open(folder / "runs/data" / DATA), USERS, CANDIDATES), workload)
    return folder


def _untrained(dataset: Dataset, name: str, work: Path) -> Run:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = build(name, data_shape(dataset)).eval()
    facts = {"model": name, "base_rate": 0.1, "settings": {}, **model.settings(), "fingerprint": "untrained"}
    run = Run(work / name, model, facts | {"impressions": 0, "seconds": 0.0})
    run.folder.mkdir()
    return run


def _finished(model_folder: Path) -> bool:
    return any((model_folder / version / MANIFEST).is_file() for version in versions(model_folder))
