"""Scoring requests with labels: what training and evaluation run on.

One request = one user at one time with the items that were (or could have been) shown. Where the
data has no impressions, negatives are drawn by popularity: at most 3 positives a request, 3
negatives for each, none of them bought in that request.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from store.types import Rows, Seconds

MAX_POSITIVES = 3
NEGATIVES = 3  # per positive
REDRAWS = 20


@dataclass(frozen=True)
class Requests:
    """Requests one after another; impressions of request r are start[r]..start[r + 1]."""

    user: NDArray[np.int64]  # [n] index of the user
    at: Seconds  # [n]
    context: Rows  # [n, F]
    start: NDArray[np.int64]  # [n + 1]
    row: Rows  # [impressions]
    label: NDArray[np.float32]  # [impressions]

    def __len__(self) -> int:
        return len(self.user)

    def items(self, request: int) -> tuple[Rows, NDArray[np.float32]]:
        """Candidate rows and labels of one request."""
        part = slice(self.start[request], self.start[request + 1])
        return self.row[part], self.label[part]

    def select(self, requests: NDArray[np.intp]) -> "Requests":
        """Some of the requests, in the order given."""
        sizes = np.diff(self.start)[requests]
        first = np.repeat(self.start[requests] - np.cumsum(sizes) + sizes, sizes)
        at = first + np.arange(int(sizes.sum()))
        start = np.concatenate([[0], np.cumsum(sizes)])
        return Requests(self.user[requests], self.at[requests], self.context[requests], start, self.row[at], self.label[at])

    def save(self, path: Path) -> None:
        """Write as .npz."""
        np.savez(path, **{name: getattr(self, name) for name in self.__dataclass_fields__})

    @staticmethod
    def load(path: Path) -> "Requests":
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return Requests(**{name: arrays[name] for name in Requests.__dataclass_fields__})


def from_impressions(user: NDArray[np.int64], at: Seconds, row: Rows, label: NDArray[np.float32], context: Rows) -> Requests:
    """Group labelled impressions by (user, at); the context of a request is that of its first impression."""
    order = np.lexsort((at, user))
    user, at, row, label, context = user[order], at[order], row[order], label[order], context[order]
    new = np.ones(len(user), bool)
    new[1:] = (user[1:] != user[:-1]) | (at[1:] != at[:-1])
    first = np.flatnonzero(new)
    return Requests(user[first], at[first], context[first], np.append(first, len(user)), row, label)


def with_drawn_negatives(
    user: NDArray[np.int64], at: Seconds, row: Rows, context: Rows, popularity: NDArray[np.int64], seed: int
) -> Requests:
    """Requests from positives alone.

    Args:
        user, at, row, context: one entry per behaviour, context int32 [n, F].
        popularity: int64 [N], how often each row occurs among the training rows.
    """
    random = np.random.default_rng(seed)
    order = np.lexsort((random.random(len(user)), at, user))  # baskets together, shuffled inside
    user, at, row, context = user[order], at[order], row[order], context[order]
    new = np.ones(len(user), bool)
    new[1:] = (user[1:] != user[:-1]) | (at[1:] != at[:-1])
    basket = np.cumsum(new) - 1
    rank = np.arange(len(user)) - np.flatnonzero(new)[basket]
    positive = np.flatnonzero(rank < MAX_POSITIVES)

    bought = np.sort(basket.astype(np.int64) * len(popularity) + row)
    owner = np.repeat(basket[positive].astype(np.int64), NEGATIVES)
    ceiling = np.cumsum(popularity)
    drawn = np.zeros(len(owner), np.int64)
    todo = np.arange(len(owner))
    for _ in range(REDRAWS):
        drawn[todo] = np.searchsorted(ceiling, random.integers(0, ceiling[-1], len(todo)), side="right")
        key = owner[todo] * len(popularity) + drawn[todo]
        at_key = np.minimum(np.searchsorted(bought, key), len(bought) - 1)
        todo = todo[bought[at_key] == key]
        if not len(todo):
            break
    kept = np.ones(len(owner), bool)
    kept[todo] = False  # a basket that holds nearly all items: fewer negatives

    source = np.concatenate([positive, np.repeat(positive, NEGATIVES)[kept]])
    label = np.concatenate([np.ones(len(positive), np.float32), np.zeros(int(kept.sum()), np.float32)])
    rows = np.concatenate([row[positive], drawn[kept].astype(np.int32)])
    return from_impressions(user[source], at[source], rows, label, context[source])
