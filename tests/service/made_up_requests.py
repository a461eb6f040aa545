"""Made-up requests over a bundle's own items, for comparing two ways to score them."""

import numpy as np

from service.behaviours import Fetched
from service.request import Call
from store.bundle import Bundle
from store.types import Behaviours

NOW = 1_600_000_000


def made_up(bundle: Bundle, candidates: int, length: int, seed: int, explain: int = 0) -> tuple[Call, Fetched]:
    """So many candidates, a life of so many behaviours: items come again and again, so that many are equally relevant."""
    random, schema = np.random.default_rng(seed), bundle.manifest.schema_
    item_rows = bundle.manifest.item_rows
    row = random.choice(random.integers(0, item_rows, max(length // 3, 1)), length).astype(np.int32)
    cross = [random.integers(0, min(feature.buckets, 3), length) for feature in schema.cross_features]
    ts = np.sort(NOW - random.integers(1, 5_000, length) * 3_600)
    behaviours = Behaviours.in_order(
        row, bundle.registry.category[row], ts, np.reshape(cross, (len(cross), length)).T.astype(np.uint8)
    )
    own = row[: candidates // 2]  # some candidates were bought before
    rows = np.concatenate([own, random.integers(0, item_rows, candidates - len(own))]).astype(np.int32)
    asked = bundle.registry.candidates([bundle.registry.ids[row - 2] if row >= 2 else "unknown" for row in rows.tolist()])
    return Call("someone", asked, NOW, NOW, schema.encode_context({}, NOW), explain, 0), Fetched(behaviours)
