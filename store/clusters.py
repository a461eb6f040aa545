"""Clusters of a lifelong history (TWIN-V2, 4.1): behaviours that resemble each other become one.

    groups by completion ratio, 5 of them (one, where the data has no such feature)
    each group is split by k-means into floor(n^0.3) parts, again and again, until none has more than 20

The paper gives ten behaviours to a cluster on average. A cluster is a virtual behaviour: its numbers are
the mean of its members', what is categorical is that of the member nearest to the centroid.
Differences: records hold buckets, not numbers, so the mean is of bucket numbers, rounded, over the
members that have one; a cluster stands at the mean time of its members. Part centres start at members
spread evenly over the group in time, so that the same history gives the same clusters.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from store.schema import Schema
from store.snapshot import Snapshot
from store.types import Behaviours, Floats, Rows

DAY_S = 86400
REFRESH_S = 14 * DAY_S  # how often clusters are made anew (TWIN-V2, 4.1)
APART = 1000  # newest behaviours at a refresh that stay one by one: what TWIN itself can search
LARGEST = 20  # gamma
GROUPS = 5  # M
ITERATIONS = 10


@dataclass(frozen=True)
class Completion:
    """Where the schema has a feature named `completion`: which it is, and how many buckets it has."""

    feature: int  # j, among the cross features
    buckets: int

    def groups(self, behaviours: Behaviours) -> Rows:
        """Group 0..4 of each behaviour int32 [L], buckets spread evenly over the groups."""
        bucket = behaviours.cross[:, self.feature].astype(np.int32)
        return np.minimum(bucket * GROUPS // self.buckets, GROUPS - 1).astype(np.int32)


def completion_of(schema: Schema) -> Completion | None:
    """The feature of a schema that groups behaviours before they are clustered; None = it has none."""
    for j, feature in enumerate(schema.cross_features):
        if feature.name == "completion":
            return Completion(j, feature.buckets)
    return None


def refresh_before(now: int) -> int:
    """The last refresh at or before `now`, both in Unix seconds: every 14th day of the clock."""
    return now - now % REFRESH_S


def clustered(life: Behaviours, refresh: int, item_vector: Floats, completion: Completion | None) -> Snapshot:
    """The snapshot of a life that a refresh leaves: all but the newest `APART` behaviours before it as clusters.

    Args:
        life: of the user, in order, rows within item_vector.
        refresh: Unix seconds.
        item_vector, completion: as `clusters` has them.
    """
    before = int(np.searchsorted(life.ts, refresh))
    older = life.select(slice(0, max(before - APART, 0)))
    return Snapshot.of(older, clusters=clusters(older, item_vector, completion), refreshed=refresh)


def clustered_at(at: int, life: Behaviours, item_vector: Floats, schema: Schema) -> Snapshot:
    """The snapshot that the last refresh before `at` leaves of a life; see `clustered`."""
    return clustered(life, refresh_before(at), item_vector, completion_of(schema))


def clusters(behaviours: Behaviours, item_vector: Floats, completion: Completion | None) -> Behaviours:
    """The clusters of a history, ordered like behaviours, with their `size`.

    Args:
        behaviours: L of them, rows within item_vector; L may be 0.
        item_vector: float32 [N, D]; behaviours of near vectors are clustered.
        completion: the feature that groups; None = one group.

    Returns:
        as many as there are clusters, sizes int32 summing to L, each 1..20. Cost: about
        10 L floor(L^0.3) D multiplications a level, two levels for a life of thousands.
    """
    count = len(behaviours)
    vector = item_vector[behaviours.row]  # [L, D]
    group = np.zeros(count, np.int32) if completion is None else completion.groups(behaviours)
    label = split(vector, group, LARGEST, ITERATIONS)  # [L]
    total = int(label.max(initial=-1)) + 1
    size = np.bincount(label, minlength=total).astype(np.int32)

    centroid = np.zeros((total, vector.shape[1]), np.float32)
    np.add.at(centroid, label, vector)
    distance = np.square(vector - (centroid / np.maximum(size, 1)[:, None])[label]).sum(axis=1)
    nearest_first = np.lexsort((-np.arange(count), distance, label))  # equal distances: the newer
    start = np.cumsum(size) - size
    member = nearest_first[start]  # [clusters] the nearest to each centroid

    ts = np.zeros(total, np.float64)
    np.add.at(ts, label, behaviours.ts)
    cross = np.zeros((total, behaviours.cross.shape[1]), np.uint8)
    for j in range(cross.shape[1]):
        cross[:, j] = _mean_bucket(label, behaviours.cross[:, j], total)
    mean_ts = np.round(ts / np.maximum(size, 1)).astype(np.int64)
    order = np.lexsort((behaviours.row[member], mean_ts))
    made = Behaviours(behaviours.row[member], behaviours.category[member], mean_ts, cross, size)
    return made.select(order)


def _mean_bucket(label: Rows, bucket: NDArray[np.uint8], total: int) -> NDArray[np.uint8]:
    """Mean bucket of each cluster's members that have one, rounded; 0 where none has."""
    real = bucket > 0
    having = np.bincount(label[real], minlength=total)
    mean = np.bincount(label[real], weights=bucket[real], minlength=total) / np.maximum(having, 1)
    return np.where(having > 0, np.maximum(np.round(mean), 1), 0).astype(np.uint8)


@njit(cache=True, nogil=True)
def split(vector: Floats, group: Rows, largest: int, iterations: int) -> Rows:
    """Cluster of each behaviour int32 [L], 0.. without gaps: recursive k-means inside each group.

    A part whose vectors are all equal cannot be split by distance: it is cut into runs of `largest`, in order.
    """
    label = np.full(len(vector), -1, np.int32)
    made = 0
    todo = []
    for g in range(GROUPS):
        members = np.nonzero(group == g)[0]
        if len(members):
            todo.append(members)
    while len(todo):
        members = todo.pop()
        n = len(members)
        if n <= largest:
            label[members] = made
            made += 1
            continue
        parts = max(int(np.floor(n**0.3)), 2)
        own = _k_means(vector, members, parts, iterations)
        sizes = np.bincount(own, minlength=parts)
        if sizes.max() == n:  # nothing to tell them apart by
            for first in range(0, n, largest):
                label[members[first : first + largest]] = made
                made += 1
            continue
        for part in range(parts):
            if sizes[part]:
                todo.append(members[own == part])
    return label


@njit(cache=True, nogil=True)
def _k_means(vector: Floats, members: NDArray[np.int64], parts: int, iterations: int) -> NDArray[np.int64]:
    """Part of each member int64 [n]; equal distances go to the earlier part."""
    n, width = len(members), vector.shape[1]
    centre = np.empty((parts, width), np.float32)
    for part in range(parts):
        centre[part] = vector[members[(2 * part + 1) * n // (2 * parts)]]
    own = np.full(n, -1, np.int64)
    for _ in range(iterations):
        moved = False
        for i in range(n):
            v = vector[members[i]]
            best, least = 0, np.float32(np.inf)
            for part in range(parts):
                distance = np.float32(0)
                c = centre[part]
                for d in range(width):
                    distance += (v[d] - c[d]) * (v[d] - c[d])
                if distance < least:
                    best, least = part, distance
            if own[i] != best:
                own[i] = best
                moved = True
        if not moved:
            break
        centre[:] = 0
        sizes = np.zeros(parts, np.int64)
        for i in range(n):
            centre[own[i]] += vector[members[i]]
            sizes[own[i]] += 1
        for part in range(parts):
            if sizes[part]:
                centre[part] /= np.float32(sizes[part])
            else:
                centre[part] = np.inf  # an empty part stays empty
    return own
