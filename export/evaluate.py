"""Score labelled requests with a trained model and say how well it ranks."""

from dataclasses import dataclass

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from export.batches import Batcher
from export.data.dataset import Dataset
from export.data.requests import Requests
from export.metrics import Figures, figures
from export.models.contract import CTRModel
from store.types import Floats

REQUESTS_A_BATCH = 32
SEED = 7


@dataclass(frozen=True)
class Evaluation:
    """Figures of a model on some impressions, and which these were."""

    figures: Figures
    sample: str


def sample_requests(requests: Requests, size: int | None, split: str = "test") -> tuple[Requests, str]:
    """All requests, or a seeded sample of `size`, and how to call it in a report."""
    if size is None or size >= len(requests):
        return requests, f"all {len(requests):,} {split} requests"
    chosen = np.sort(np.random.default_rng(SEED).choice(len(requests), size, replace=False))
    return requests.select(chosen), f"{size:,} of {len(requests):,} {split} requests, seed {SEED}"


def score_requests(dataset: Dataset, requests: Requests, model: CTRModel) -> Floats:
    """Probabilities float32 [impressions], in the order of `requests`."""
    batcher = Batcher(dataset, requests, model)
    model.eval()
    batcher.refresh()
    scores = np.zeros(len(requests.row), np.float32)
    starts = range(0, len(requests), REQUESTS_A_BATCH)
    with torch.inference_mode():
        for first in track(starts, "evaluate", console=Console(stderr=True)):
            chosen = range(first, min(first + REQUESTS_A_BATCH, len(requests)))
            for request, result in zip(chosen, batcher.scores(chosen), strict=True):
                scores[requests.start[request] : requests.start[request + 1]] = result
    return scores


def evaluate(dataset: Dataset, model: CTRModel, sample: int | None = None, split: str = "test") -> Evaluation:
    """Figures on the impressions of a split, or on a seeded sample of its requests."""
    requests, described = sample_requests(dataset.requests[split], sample, split)
    scores = score_requests(dataset, requests, model)
    user = np.repeat(requests.user, np.diff(requests.start))
    return Evaluation(figures(user, requests.label, scores), described)
