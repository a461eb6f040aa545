"""Score labelled requests with a trained model and say how well it ranks, overall and where it is hard."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from export.batches import Batcher
from export.data.dataset import Dataset
from export.data.requests import Requests
from export.json_files import kept_as_json
from export.metrics import Calibration, Figures, calibration, figures
from export.models.contract import CTRModel
from store.search import SEARCHES, Search
from store.types import Floats, Mask

SEED = 7
HEAVY = 1000  # past behaviours of a heavy user
LENGTHS = (50, 200, 1000)  # newest behaviours that a history is cut to

Progress = Callable[[int, int], None]  # requests done, requests in all


@dataclass(frozen=True)
class Evaluation:
    """Figures of a model on some impressions, and which these were."""

    figures: Figures
    heavy: Figures  # users with at least 1000 behaviours before the impression
    first_time: Figures  # items that the user has no behaviour with before the impression
    calibration: Calibration
    sample: str

    def as_json(self) -> dict[str, Any]:
        """Figures over all impressions, `heavy` and `first_time` beside them; not a number is null."""
        figures = {**asdict(self.figures), "heavy": asdict(self.heavy), "first_time": asdict(self.first_time)}
        kept: dict[str, Any] = kept_as_json(figures)
        return kept


@dataclass(frozen=True)
class Past:
    """What lay behind the user at each impression."""

    behaviours: NDArray[np.int64]  # [impressions] how many
    first_time: Mask  # [impressions] none of them with the candidate


def no_progress(done: int, total: int) -> None:
    """For callers who do not watch."""


def sample_requests(requests: Requests, size: int | None, split: str = "test") -> tuple[Requests, str]:
    """All requests, or a seeded sample of `size`, and how to call it in a report."""
    if size is None or size >= len(requests):
        return requests, f"all {len(requests):,} {split} requests"
    chosen = np.sort(np.random.default_rng(SEED).choice(len(requests), size, replace=False))
    return requests.select(chosen), f"{size:,} of {len(requests):,} {split} requests, seed {SEED}"


def past(dataset: Dataset, requests: Requests) -> Past:
    """The past at each impression, in the order of `requests`. Cost: one pass over each history."""
    count, first_time = np.zeros(len(requests.row), np.int64), np.ones(len(requests.row), np.bool_)
    for request in range(len(requests)):
        part = slice(requests.start[request], requests.start[request + 1])
        history = dataset.history(int(requests.user[request]), int(requests.at[request]))
        count[part] = len(history)
        first_time[part] = ~np.isin(requests.row[part], history.row)
    return Past(count, first_time)


def reads_beyond_newest(model: CTRModel | type[CTRModel]) -> bool:
    """Whether more than the newest list decides its scores, so that cutting a history can tell."""
    return SEARCHES[model.search_name].reads != "newest"


def score_requests(
    dataset: Dataset,
    requests: Requests,
    model: CTRModel,
    newest: int | None = None,
    search: type[Search] | None = None,
    progress: Progress = no_progress,
) -> Floats:
    """Probabilities float32 [impressions], in the order of `requests`.

    Args:
        newest: cut every history to so many behaviours; None = the whole life.
        search: retrieves in place of the model's own; it must need no table.
    """
    batcher = Batcher(dataset, requests, model, newest=newest)
    model.eval()
    batcher.refresh()
    if search is not None:
        batcher.search_type = search
    scores = np.zeros(len(requests.row), np.float32)
    length = [len(dataset.history(int(user), int(at))) for user, at in zip(requests.user, requests.at, strict=True)]
    order = np.argsort(length, kind="stable").tolist()  # histories of about one length a batch: less padding
    with torch.inference_mode():
        for first in range(0, len(order), model.scored_at_once):
            chosen = order[first : first + model.scored_at_once]
            for request, result in zip(chosen, batcher.scores(chosen), strict=True):
                scores[requests.start[request] : requests.start[request + 1]] = result
            progress(first + len(chosen), len(order))
    return scores


def judge(requests: Requests, scores: Floats, before: Past, sample: str) -> Evaluation:
    """All figures of scored requests.

    Args:
        scores: probabilities float32 [impressions]; before: the same impressions' past; sample: what they are called.
    """
    user = np.repeat(requests.user, np.diff(requests.start))

    def of(chosen: Mask) -> Figures:
        return figures(user[chosen], requests.label[chosen], scores[chosen])

    return Evaluation(
        figures=figures(user, requests.label, scores),
        heavy=of(before.behaviours >= HEAVY),
        first_time=of(before.first_time),
        calibration=calibration(requests.label, scores),
        sample=sample,
    )


def evaluate(
    dataset: Dataset,
    model: CTRModel,
    sample: int | None = None,
    split: str = "test",
    newest: int | None = None,
    search: type[Search] | None = None,
    progress: Progress = no_progress,
) -> Evaluation:
    """Figures on the impressions of a split, or on a seeded sample of its requests; the rest as in `score_requests`."""
    requests, described = sample_requests(dataset.requests[split], sample, split)
    scores = score_requests(dataset, requests, model, newest, search, progress)
    return judge(requests, scores, past(dataset, requests), described)
