"""What a request may know of its user: the behaviours before it, whole, cut, or with older ones in clusters."""

import numpy as np
from numpy.typing import NDArray

from export.data.dataset import Dataset
from store.clusters import clustered, completion_of, refresh_before
from store.snapshot import Snapshot
from store.types import Behaviours, Floats


class History:
    """The behaviours before an impression, the newest `newest` of them."""

    def __init__(self, dataset: Dataset, newest: int | None) -> None:
        self.dataset, self.newest = dataset, newest

    def behaviours(self, user: int, at: int) -> Behaviours:
        """Behaviours of a user with ts < at."""
        behaviours = self.dataset.history(user, at)
        return behaviours if self.newest is None else behaviours.select(slice(max(len(behaviours) - self.newest, 0), None))

    def snapshot(self, user: int, at: int) -> Snapshot | None:
        """What stands for the oldest of `behaviours(user, at)`; None = nothing does."""
        return None


class ClusteredHistory(History):
    """The oldest behaviours as clusters, the others one by one.

    What a refresh clusters is `store.clusters.clustered`. The clusters of a user at a refresh are made when they are
    first read, from one version of the item vectors.
    """

    def __init__(self, dataset: Dataset, item_vector: Floats, newest: int | None) -> None:
        """`item_vector`: float32 [N, D], what is near to what."""
        super().__init__(dataset, newest)
        self.item_vector = item_vector
        self.completion = completion_of(dataset.schema)
        self._made: dict[tuple[int, int], Snapshot] = {}

    def snapshot(self, user: int, at: int) -> Snapshot:
        refresh = refresh_before(at)
        if self.newest is not None:  # another window at every impression
            return self._clustered(self.behaviours(user, at), refresh)
        if (user, refresh) not in self._made:
            self._made[user, refresh] = self._clustered(self.dataset.history(user, refresh), refresh)
        return self._made[user, refresh]

    def _clustered(self, life: Behaviours, refresh: int) -> Snapshot:
        return clustered(life, refresh, self.item_vector, self.completion)


def occurrences(dataset: Dataset) -> list[NDArray[np.float32]]:
    """How often each value of each item feature occurs among the training behaviours: float32 [values] for each feature."""
    rows = dataset.row[dataset.ts < dataset.facts["train_end_ts"]]
    return [np.bincount(column[rows], minlength=size).astype(np.float32) for column, size in
            zip(dataset.items.value.T, dataset.items.sizes, strict=True)]  # fmt: skip
