"""Offline figures: AUC, GAUC, log loss, calibration."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import log_loss, roc_auc_score

from store.types import Floats

BINS = 20


@dataclass(frozen=True)
class Figures:
    """What an evaluation says."""

    auc: float
    gauc: float
    log_loss: float
    impressions: int
    users: int


@dataclass(frozen=True)
class Calibration:
    """Whether scores are probabilities: bins of equal mass, least score first."""

    ratio: float  # sum of the scores to the number of positives, 1 = right on average; NaN without a positive
    error: float  # expected calibration error: mean over impressions of |predicted - observed| of their bin
    predicted: list[float]  # mean score of each bin
    observed: list[float]  # share of positives in each bin
    impressions: list[int]  # of each bin


def gauc(user: NDArray[np.int64], label: Floats, score: Floats) -> float:
    """AUC per user, averaged with the impressions as weights (DIN eq. 10); single-class users skipped in both sums.

    NaN when no user has both classes.
    """
    order = np.argsort(user, kind="stable")
    user, label, score = user[order], label[order], score[order]
    bounds = [*np.flatnonzero(user[1:] != user[:-1]) + 1, len(user)]
    total = weight = 0.0
    for start, end in pairwise([0, *bounds]):
        shown = label[start:end]
        if 0 < shown.sum() < len(shown):
            total += (end - start) * roc_auc_score(shown, score[start:end])
            weight += end - start
    return total / weight if weight else float("nan")


def figures(user: NDArray[np.int64], label: Floats, score: Floats) -> Figures:
    """All figures of scored impressions; `score` holds probabilities.

    AUC and GAUC are NaN where there is only one label, the log loss where there is no impression.
    """
    return Figures(
        auc=float(roc_auc_score(label, score)) if 0 < label.sum() < len(label) else float("nan"),
        gauc=gauc(user, label, score),
        log_loss=_log_loss(label, score) if len(label) else float("nan"),
        impressions=len(label),
        users=len(np.unique(user)),
    )


def calibration(label: Floats, score: Floats, bins: int = BINS) -> Calibration:
    """Predicted against observed rates (Guo et al., ICML 2017, eq. 3, here with bins of equal mass).

    Args:
        label, score: float32 [impressions], score a probability; at least one impression.
        bins: how many; equal scores are never parted, so that the order of the impressions has no
            say, and a bin that they leave empty is left out.
    """
    order = np.argsort(score, kind="stable")
    label, score = label[order].astype(np.float64), score[order].astype(np.float64)
    first_equal = np.searchsorted(score, score, side="left")  # rank of the first of equal scores
    starts = np.flatnonzero(np.diff(first_equal * bins // len(score), prepend=-1))
    count = np.diff(starts, append=len(score))
    predicted = np.add.reduceat(score, starts) / count
    observed = np.add.reduceat(label, starts) / count
    return Calibration(
        ratio=float(score.sum() / label.sum()) if label.any() else float("nan"),
        error=float((count * np.abs(predicted - observed)).sum() / len(score)),
        predicted=predicted.tolist(),
        observed=observed.tolist(),
        impressions=count.tolist(),
    )


def _log_loss(label: Floats, score: Floats) -> float:
    return float(log_loss(label, np.clip(score.astype(np.float64), 1e-7, 1 - 1e-7), labels=[0, 1]))
