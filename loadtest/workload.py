"""Requests as a ranking tier would send them: real users, candidates drawn by popularity.

A workload is a JSON file, so that whoever sends it needs nothing else of this project.
"""

import json
from pathlib import Path

import numpy as np

from store.load import Prepared
from store.types import FIRST_KNOWN

USERS, CANDIDATES, SEED = 200, 500, 11


def make_workload(
    prepared: Prepared, users: int = USERS, candidates: int = CANDIDATES, seed: int = SEED
) -> list[dict[str, object]]:
    """Requests of the data set's users, drawn with equal chance, each with items drawn by how often they occur.

    Users follow the data: half of them have a history below the median.
    """
    random = np.random.default_rng(seed)
    ids, popularity = [], np.zeros(prepared.registry.item_rows)
    for user_id, behaviours in prepared.users():
        ids.append(user_id)
        popularity += np.bincount(behaviours.row, minlength=len(popularity))
    chance = popularity[FIRST_KNOWN:] / popularity[FIRST_KNOWN:].sum()
    size = min(candidates, int((chance > 0).sum()))
    return [
        {
            "user_id": ids[user],
            "item_ids": [prepared.registry.ids[item] for item in random.choice(len(chance), size, replace=False, p=chance)],
        }
        for user in random.choice(len(ids), min(users, len(ids)), replace=False)
    ]


def write_workload(requests: list[dict[str, object]], path: Path) -> None:
    """Write a workload file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(requests))
