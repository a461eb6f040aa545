"""Our model of the same name under the public twin's conditions: its impressions, its passes, its newest L behaviours.

The report's own table shows our models as they are meant to be trained; this is the like-for-like figure.
"""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from export.data.dataset import Dataset
from export.evaluate import judge, past, sample_requests, score_requests
from export.fuxictr import RUNS, CompareSettings
from export.loop import Progress
from export.report.json_files import kept_as_json, read_json
from export.run import TrainSettings, write_json
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
    if "ours" not in result or again:
        started = time.monotonic()
        cut = TrainSettings(days=settings.days, epochs=settings.epochs, seed=settings.seed)
        run = train(dataset, name, cut, progress, runs / "ours", again=again, trained_length=settings.length)
        test, sample = sample_requests(dataset.requests["test"], settings.sample)
        scores = score_requests(dataset, test, run.model, newest=settings.length)
        quality = judge(test, scores, past(dataset, test), sample)
        figures = {**asdict(quality.figures), "heavy": asdict(quality.heavy), "first_time": asdict(quality.first_time)}
        result["ours"] = {**kept_as_json(figures), "seconds": round(time.monotonic() - started, 1)}
        write_json(file, result)
    ours: dict[str, Any] = result["ours"]
    return ours
