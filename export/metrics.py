"""Offline figures: AUC, GAUC, log loss."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import log_loss, roc_auc_score

from store.types import Floats


@dataclass(frozen=True)
class Figures:
    """What an evaluation says."""

    auc: float
    gauc: float
    log_loss: float
    impressions: int
    users: int


def gauc(user: NDArray[np.int64], label: Floats, score: Floats) -> float:
    """AUC per user, averaged with the impressions as weights (DIN eq. 10); single-class users skipped in both sums.

    NaN when no user has both classes.
    """
    order = np.argsort(user, kind="stable")
    user, label, score = user[order], label[order], score[order]
    bounds = [*np.flatnonzero(np.diff(user, prepend=user[0] - 1)), len(user)]
    total = weight = 0.0
    for start, end in pairwise(bounds):
        shown = label[start:end]
        if 0 < shown.sum() < len(shown):
            total += (end - start) * roc_auc_score(shown, score[start:end])
            weight += end - start
    return total / weight if weight else float("nan")


def figures(user: NDArray[np.int64], label: Floats, score: Floats) -> Figures:
    """All figures of scored impressions; `score` holds probabilities. NaN where there is only one label."""
    return Figures(
        auc=float(roc_auc_score(label, score)) if 0 < label.sum() < len(label) else float("nan"),
        gauc=gauc(user, label, score),
        log_loss=float(log_loss(label, np.clip(score.astype(np.float64), 1e-7, 1 - 1e-7), labels=[0, 1])),
        impressions=len(label),
        users=len(np.unique(user)),
    )
