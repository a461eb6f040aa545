"""Our model of the same name under the public twin's conditions: its impressions, its passes, its newest L behaviours.

The report's own table shows our models as they are meant to be trained; this is the like-for-like figure.
"""

import time
from pathlib import Path
from typing import Any

from export.data.dataset import Dataset
from export.evaluate import judge, past, sample_requests, score_requests
from export.fuxictr import RUNS, CompareSettings
from export.json_files import read_json
from export.loop import Progress
from export.run import TrainSettings, finished, write_json
from export.train import train


def beside(
    dataset: Dataset,
    name: str,
    settings: CompareSettings,
    again: bool = False,
    runs: Path = RUNS,
    progress: Progress = lambda *_: None,
) -> dict[str, Any]:
    """Train and evaluate ours as the twin was, and add it to the twin's result as `ours`; a finished one is reused.

    An interrupted training goes on where it was. What is ours and not the twin's: time gaps, cross features, both
    learning rates and the size of a batch.

    Raises:
        TrainingFailed: as `train`.
    """
    file = runs / dataset.schema.data / f"{name}.json"
    result = read_json(file)
    cut = TrainSettings(days=settings.days, epochs=settings.epochs, seed=settings.seed)
    run = finished(dataset, name, cut, runs / "ours", trained_length=settings.length)
    if again or run is None or result.get("ours", {}).get("made_from") != run.facts["made_from"]:
        started = time.monotonic()
        run = train(dataset, name, cut, progress, runs / "ours", again=again, trained_length=settings.length)
        test, sample = sample_requests(dataset.requests["test"], settings.sample)
        scores = score_requests(dataset, test, run.model, newest=settings.length)
        quality = judge(test, scores, past(dataset, test), sample)
        seconds = round(time.monotonic() - started, 1)
        result["ours"] = {**quality.as_json(), "made_from": run.facts["made_from"], "seconds": seconds}
        write_json(file, result)
    ours: dict[str, Any] = result["ours"]
    return ours
