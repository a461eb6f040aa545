"""FuxiCTR's scoring of one user and their candidates: FOLDER THREADS; a forward pass of torch in eager mode a turn.

A batch is what the package's models read: a row for each candidate, the behaviours repeated in each. It is made before the
first turn, so what repeating costs is not in the time.
"""

import json
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuxictr.features import FeatureMap
from model_zoo import LongCTR

from loadtest.peers.turns import answer_turns

LABEL = "label"


def main(folder: Path, threads: int) -> None:
    """Answer turns until stdin ends."""
    torch.set_num_threads(threads)
    job = json.loads((folder / "job.json").read_text())
    model = _model(job, folder).eval()
    batch = _batch(folder, list(job["features"]))
    with torch.no_grad():
        answer_turns(lambda: model.forward(batch))


def _model(job: dict[str, Any], folder: Path) -> Any:
    feature_map = FeatureMap("bench", str(folder))
    feature_map.labels, feature_map.default_emb_dim = [LABEL], job["options"]["embedding_dim"]
    feature_map.features = OrderedDict(job["features"])
    feature_map.num_fields = len(feature_map.features)
    unused = {"verbose": 0, "gpu": -1, "metrics": ["AUC"], "model_root": str(folder)}  # required, for its own loop
    return getattr(LongCTR, job["kind"])(feature_map, model_id=job["kind"], **job["options"], **unused)


def _batch(folder: Path, names: list[str]) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """Context [C], item columns [C * (L + 1)] with the target last, and the mask [C, L]."""
    with np.load(folder / "zoo.npz") as arrays:
        behaviours, candidates, context = (torch.from_numpy(arrays[name]) for name in ("behaviours", "candidates", "context"))
    count, features = candidates.shape
    rows = torch.cat([behaviours.expand(count, -1, -1), candidates[:, None]], dim=1).flatten(0, 1).long()
    items = {name: rows[:, f].contiguous() for f, name in enumerate(names[:features])}
    scalars = {name: value.long().repeat(count) for name, value in zip(names[features:], context, strict=True)}
    return {**scalars, LABEL: torch.zeros(count)}, items, torch.ones(count, len(behaviours))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
