"""All kernels compiled at once: for an image, so that no process of it begins with half a minute of compiling."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.attention import attend, numbered
from store.bucket_sums import add_to_sums, read_sums
from store.clusters import split
from store.gaps import gap_buckets
from store.leaf_order import compile_kernels
from store.memory import STATE, MemoryWriter, shapes_of
from store.pair_unit import relevance_of_pairs
from store.registry import Registry
from store.search import SEARCHES, SearchSpec
from store.target_row import attend_with_itself
from store.types import FIRST_KNOWN, Behaviours, Candidates

ITEMS, WIDTH = 8, 16


def compile_all() -> None:
    """Call every kernel once with arrays of the kinds that a scorer has: tables that are mapped, and such that are gathered.

    Cost: half a minute on one core; half a second where numba's cache has them.
    """
    compile_kernels()
    row = Registry.build("kernels", [f"i{n}" for n in range(ITEMS)], ["c"] * ITEMS).candidates(["i1", "", "i2", "i3"]).row
    ts, category = np.arange(len(row), dtype=np.int64), np.full_like(row, FIRST_KNOWN)
    gap_buckets(ts, 0)
    behaviours = Behaviours(row, category, ts, np.ones((len(row), 1), np.uint8))
    split(np.ones((len(row), WIDTH), np.float32), np.zeros(len(row), np.int32), 2, 2)
    size, own = np.ones(1, np.int32), np.zeros(1, np.int32)
    _, index = numbered(np.zeros((1, 1), np.int32), size, len(row))
    vector = np.ones((1, WIDTH), np.float32)
    attend(np.ones((2, 1, 2 * WIDTH), np.float32), WIDTH, vector, own, vector, own, index, size, own, weighs=True)
    weights = {name: np.ones(shape, np.float32) for name, shape in shapes_of(WIDTH, WIDTH, 2).items()}
    of_memory = ((1, 2, WIDTH), (1, 2, WIDTH), (1, WIDTH), (1, WIDTH), (1, 2))
    state = {name: np.ones(shape, np.float32) for name, shape in zip(STATE, of_memory, strict=True)}
    MemoryWriter({**weights, "induced": np.array(1), "edge": np.array(1)}).run(
        {**state, "behaviour_row": row[None, None]}, np.ones((ITEMS + FIRST_KNOWN, WIDTH), np.float32)
    )
    of_pairs = [(1, WIDTH)] * 3 + [(WIDTH, WIDTH)] * 2 + [(4, WIDTH), (WIDTH, WIDTH), (4, WIDTH), (WIDTH,), (1,)]
    relevance_of_pairs(*(np.ones((1, *shape), np.float32) for shape in of_pairs))
    bucket, sums = np.zeros((ITEMS + FIRST_KNOWN, 1), np.int32), np.ones((1, 1, 2, WIDTH), np.float32)
    read_sums(bucket, row[None, None], sums)
    add_to_sums({"bucket_sum": sums, "behaviour_row": row[None, None]}, bucket, np.ones((ITEMS + FIRST_KNOWN, WIDTH), np.float32))
    ones = np.ones((1, 2, 2), np.float32)
    attend_with_itself(np.ones((3, 1, 2, 2), np.float32), ones, ones, np.ones(1, np.float32))
    gathered: dict[str, NDArray[Any]] = {
        "signature": np.arange(ITEMS + FIRST_KNOWN, dtype=np.uint64),
        "key_projection": np.ones((ITEMS + FIRST_KNOWN, 2, WIDTH), np.float32),
        "query_projection": np.ones((ITEMS + FIRST_KNOWN, 2, WIDTH), np.float32),
        "cross_bias": np.ones((2, 2, 2), np.float32),
    }
    cross = np.ones((len(row), 2), np.int32)
    many = Candidates(np.tile(row, ITEMS), np.tile(category, ITEMS))  # so many that keys are put side by side first
    with tempfile.TemporaryDirectory() as folder:
        for name, table in gathered.items():
            np.save(Path(folder) / f"{name}.npy", table)
        mapped = {name: np.load(Path(folder) / f"{name}.npy", mmap_mode="r") for name in gathered}
        for tables in (mapped, gathered):
            for name, search in SEARCHES.items():
                search(SearchSpec.model_validate({"name": name, "k": 2}), tables)(many, behaviours, cross)
        del mapped


if __name__ == "__main__":
    compile_all()
