"""Shape buckets: requests are padded to a few shapes, so that a device can keep buffers and a captured graph for each.

A bucket is a size for each free axis of a graph. Padding is zeros and mask False, which no score depends on;
what comes out for padded places is dropped. Axes: `store/types.py`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.bundle import Bundle
from store.graph_inputs import AXES, GraphInputs
from store.life_inputs import LIFE_AXES

CANDIDATES = (64, 128, 256, 512, 1024)  # places of a request, or groups of them
LIVES = tuple(1024 << i for i in range(8))  # 1,024 to 131,072 behaviours; no K is above the first, all are multiples of CHUNK

Sizes = dict[str, int]  # of an axis, by its letter


@dataclass(frozen=True)
class Buckets:
    """The sizes each axis may have, ascending, by its letter."""

    steps: Mapping[str, tuple[int, ...]]

    @staticmethod
    def of(bundle: Bundle, candidates: tuple[int, ...] = CANDIDATES, lives: tuple[int, ...] = LIVES) -> "Buckets":
        """For the requests of a bundle: of most axes there is one size, to which every request is padded."""
        schema, group = bundle.manifest.schema_, bundle.search.group
        return Buckets({
            "U": (1,), "C": candidates,
            "G": (1,) if group is None else candidates, "S": candidates if group is None else (group,),
            "K": (bundle.search.k,), "R": (max(bundle.manifest.recent, 1),), "L": lives,
            "1+J": (1 + len(schema.cross_features),), "F": (len(schema.context),),
        })  # fmt: skip

    def bucket(self, sizes: Sizes) -> Sizes:
        """The smallest sizes that hold `sizes`; beyond the largest step, multiples of it."""
        return {letter: _up(size, self.steps[letter]) for letter, size in sizes.items()}

    def lists(self, bucket: Sizes) -> bool:
        """Whether a bucket is among the steps, not beyond them."""
        return all(size in self.steps[letter] for letter, size in bucket.items())

    def all(self, letters: set[str]) -> list[Sizes]:
        """Every bucket over these axes, the largest first: memory that has been grown for it serves all others."""
        chosen = sorted(letters)
        found = [dict(zip(chosen, sizes, strict=True)) for sizes in product(*(self.steps[letter] for letter in chosen))]
        return sorted(filter(_can_be, found), key=lambda sizes: math.prod(sizes.values()), reverse=True)


def axes_of(name: str) -> tuple[str, ...]:
    """Letters of the axes of a request's input; none for a state, whose shape never differs."""
    return AXES.get(name) or LIFE_AXES.get(name) or ()


def sizes_of(inputs: GraphInputs, names: list[str]) -> Sizes:
    """The size of every axis of the named inputs."""
    return {letter: size for name in names for letter, size in zip(axes_of(name), inputs[name].shape, strict=False)}


def pad(array: NDArray[Any], shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """The array with zeros behind, along every axis that is longer in `shape`, as `dtype`. No copy where nothing is missing."""
    if array.shape == shape:
        return np.ascontiguousarray(array, dtype)
    padded = np.zeros(shape, dtype)
    padded[tuple(slice(size) for size in array.shape)] = array
    return padded


def places(sizes: Sizes) -> int:
    """How many logits there are: of candidates, where the graph puts them in order, else of places, G x S."""
    return sizes.get("C") or sizes["G"] * sizes["S"]


def crop(output: NDArray[Any], sizes: Sizes, bucket: Sizes) -> NDArray[Any]:
    """An output of a bucket as the unpadded request has it: [1, P, K] at places, P = G x S; [1, C] or [1, P] logits."""
    rest = output.shape[2:]
    if not rest and "C" in sizes:
        return output[:, : sizes["C"]]
    by_group = output.reshape(1, bucket["G"], bucket["S"], *rest)[:, : sizes["G"], : sizes["S"]]
    if rest and "K" in sizes:
        by_group = by_group[..., : sizes["K"]]
    return by_group.reshape(1, sizes["G"] * sizes["S"], *by_group.shape[3:])


def _can_be(bucket: Sizes) -> bool:
    """Whether any request has these sizes: there are as many places as candidates, and no group without one."""
    return "C" not in bucket or max(bucket["G"], bucket["S"]) <= bucket["C"] <= bucket["G"] * bucket["S"]


def _up(size: int, steps: tuple[int, ...]) -> int:
    for step in steps:
        if size <= step:
            return step
    return -(-size // steps[-1]) * steps[-1]
