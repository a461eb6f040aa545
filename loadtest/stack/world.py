"""What the stack is tested with: complete_journey, a bundle of every model by the real export path, and requests for locust.

Weights are random: the stack is tested here, not how well a model ranks. What is in the folder is used again.

    runs/stack/runs/data/complete_journey/    the prepared data set
    runs/stack/runs/workload.json
    runs/stack/bundles/<model>/<version>/
"""

import shutil
from pathlib import Path

from rich.console import Console
from rich.progress import track

from export.data.prepare import prepare
from export.models import list_models
from loadtest.served.untrained import is_made, make_untrained
from loadtest.workload import make_workload, write_workload
from store.load import Prepared

DATA, SEED = "complete_journey", 23
USERS, CANDIDATES = 100, 200  # of the requests


def make_stack_world(folder: Path, console: Console) -> Path:
    """The folder with everything in it. Cost: a minute of one core the first time."""
    dataset = prepare(DATA, into=folder / "runs/data")
    missing = [name for name in list_models() if not is_made(folder / "bundles" / name)]
    for name in track(missing, "   bundles", console=console):
        shutil.rmtree(folder / "bundles" / name, ignore_errors=True)
        make_untrained(dataset, name, {}, SEED, folder / "bundles")
    workload = folder / "runs/workload.json"
    if not workload.exists():
        write_workload(make_workload(Prepared.open(folder / "runs/data" / DATA), USERS, CANDIDATES), workload)
    return folder
