"""The made-up data set `bench`: items, users' lives and candidates by Zipf laws, seeded."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.data.dataset import ITEMS_FILE, Dataset, ItemFeatures
from export.data.requests import Requests
from store.registry import Registry
from store.schema import CLOCK_CONTEXT, ContextFeature, CrossFeature, Schema
from store.types import FIRST_KNOWN, PADDING, UNKNOWN, Behaviours, Rows

DATA, SEED = "bench", 17
CROSS = ("price", "quantity", "completion")  # J = 3
EDGES = 14
INHERENT = {"brand": 5_000, "maker": 800, "department": 30, "kind": 300, "size": 50, "colour": 20}
LAST_TS, SPAN_S = 1_760_000_000, 10 * 365 * 86400
A_SESSION = 10  # behaviours of a session, on average


@dataclass(frozen=True)
class Sizes:
    """How much is made."""

    items: int = 200_000
    categories: int = 1_200
    life_categories: int = 200  # of a user
    zipf: float = 1.0  # exponent, of categories and of items within one


def shares(number: int, exponent: float) -> NDArray[np.float64]:
    """Zipf's law: float64 [number], summing to 1."""
    share = np.power(np.arange(1.0, number + 1), -exponent)
    return np.asarray(share / share.sum(), np.float64)


class BenchWorld:
    """The items of the data set, and lives and candidates drawn from them."""

    def __init__(self, sizes: Sizes = Sizes()) -> None:
        self.sizes = sizes
        random = np.random.default_rng(SEED)
        extra = random.choice(sizes.categories, sizes.items - sizes.categories, p=shares(sizes.categories, sizes.zipf))
        category = np.concatenate([np.arange(sizes.categories), random.permutation(extra)])  # numbered by how frequent they are
        self.registry = Registry.build(DATA, [f"i{i}" for i in range(sizes.items)], [f"c{c}" for c in category])
        edges = [float(edge) for edge in range(EDGES)]
        self.schema = Schema(
            data=DATA,
            cross_features=[CrossFeature(name=name, edges=edges) for name in CROSS],
            context=[ContextFeature(name=name, values=[str(i) for i in range(size)]) for name, size in CLOCK_CONTEXT.items()],
        )
        known = self.registry.category[FIRST_KNOWN:]
        in_order = np.argsort(known, kind="stable")
        self._by_category = in_order.astype(np.int32) + FIRST_KNOWN  # item rows; in each category the popular ones first
        self._starts = np.searchsorted(known[in_order], np.arange(sizes.categories + 1) + FIRST_KNOWN)

    @cached_property
    def items(self) -> ItemFeatures:
        """Features of all items: the item, its category and six inherent ones."""
        random, rows = np.random.default_rng(SEED + 1), self.registry.item_rows
        columns: list[NDArray[Any]] = [np.arange(rows), self.registry.category]
        columns += [FIRST_KNOWN + random.choice(size, rows, p=shares(size, self.sizes.zipf)) for size in INHERENT.values()]
        value = np.stack(columns, axis=1).astype(np.int32)
        value[PADDING], value[UNKNOWN] = PADDING, UNKNOWN
        sizes = [rows, self.sizes.categories + FIRST_KNOWN, *(size + FIRST_KNOWN for size in INHERENT.values())]
        vocabulary = [[], *([str(i) for i in range(size - FIRST_KNOWN)] for size in sizes[1:])]
        return ItemFeatures(["item", "category", *INHERENT], value, sizes, vocabulary)

    def categories_of(self, user: int) -> Rows:
        """Category rows of a user's life, the most frequent first."""
        random = np.random.default_rng([SEED, 2, user])
        number = min(self.sizes.life_categories, self.sizes.categories)
        chosen = random.choice(self.sizes.categories, number, replace=False, p=shares(self.sizes.categories, self.sizes.zipf))
        return chosen.astype(np.int32) + FIRST_KNOWN

    def life(self, user: int, behaviours: int) -> Behaviours:
        """A user's life: every one of their categories while there is room, sessions of about ten, ten years."""
        random, categories = np.random.default_rng([SEED, 3, user]), self.categories_of(user)[:behaviours]
        drawn = random.choice(categories, behaviours - len(categories), p=shares(len(categories), self.sizes.zipf))
        category = random.permutation(np.concatenate([categories, drawn]))
        first, last = self._starts[category - FIRST_KNOWN], self._starts[category - FIRST_KNOWN + 1]
        rank = np.floor(np.exp(random.random(behaviours) * np.log(last - first + 1)) - 1)  # log-uniform: Zipf's law with 1
        row = self._by_category[first + np.minimum(rank.astype(np.int64), last - first - 1)]
        between = random.exponential(SPAN_S * A_SESSION / behaviours, behaviours)
        apart = np.where(random.random(behaviours) < 1 / A_SESSION, between, random.integers(5, 120, behaviours))
        ts = LAST_TS - np.cumsum(np.ceil(apart).astype(np.int64))[::-1]
        cross = random.integers(1, EDGES + 2, (behaviours, len(CROSS))).astype(np.uint8)
        return Behaviours.in_order(row, category, np.maximum(ts, np.arange(behaviours)), cross)

    def candidates(self, user: int, number: int, categories: int, seed: int) -> list[str]:
        """Ids of different items in so many of the user's categories, some of each: candidates that find much to attend to."""
        random = np.random.default_rng([SEED, 4, user, seed])
        own = self.categories_of(user)
        chosen = random.choice(own, min(categories, len(own)), replace=False, p=shares(len(own), self.sizes.zipf)) - FIRST_KNOWN
        leading = self._by_category[self._starts[chosen]]
        pool = np.concatenate([self._by_category[self._starts[c] + 1 : self._starts[c + 1]] for c in chosen])
        rank = np.concatenate([np.arange(2, self._starts[c + 1] - self._starts[c] + 1) for c in chosen])
        more = min(max(number - len(leading), 0), len(pool))
        share = rank**-self.sizes.zipf
        others = random.choice(pool, more, replace=False, p=share / share.sum())
        rows = random.permutation(np.concatenate([leading[:number], others]))
        return [self.registry.ids[row - FIRST_KNOWN] for row in rows.tolist()]

    def dataset(self, folder: Path) -> Dataset:
        """What the export path asks of a data set: items, some histories, some requests; its item features in `folder`."""
        lives = [self.life(user, 1_000) for user in range(8)]
        start = np.arange(len(lives) + 1) * 1_000
        row = np.concatenate([life.row for life in lives])
        cross = np.concatenate([life.cross for life in lives])
        picked = row.reshape(len(lives), -1)[:, :16]
        context = np.full((len(lives), len(self.schema.context)), FIRST_KNOWN, np.int32)
        requests = Requests(
            np.arange(len(lives)), np.full(len(lives), LAST_TS + 1), context, np.arange(len(lives) + 1) * 16, picked.ravel(),
            np.zeros(picked.size, np.float32),
        )  # fmt: skip
        self.items.save(folder / ITEMS_FILE)
        facts = {"fingerprint": "made up", "calibrated": False}
        ts = np.concatenate([life.ts for life in lives])
        names = [f"u{user}" for user in range(len(lives))]
        return Dataset(folder, facts, self.schema, self.registry, self.items, names, start, row, ts, cross, {"test": requests})
