"""Models of a synthetic data set, and requests to them: small enough to check by hand or by brute force."""

from dataclasses import dataclass

import numpy as np
import torch

from export.models import build
from export.models.contract import CTRModel, DataShape
from store.gaps import BUCKETS
from store.graph_inputs import GraphInputs, cross_with_gap, graph_inputs
from store.search import SEARCHES
from store.types import Behaviours, Candidates, Retrieved

ITEMS, CATEGORIES = 40, 5
SHAPE = DataShape(item_features=[ITEMS, CATEGORIES + 2], cross_features=[BUCKETS, 4], context=[6])
AT = 2_000_000
CONTEXT = np.array([3], np.int32)


@dataclass
class Small:
    """A model, its item vectors, and its search over them."""

    model: CTRModel
    vectors: torch.Tensor

    @staticmethod
    def of(name: str, seed: int = 0, **config) -> "Small":
        torch.manual_seed(seed)
        model = build(name, SHAPE, dim=16, head_dim=4, **config).eval()
        rows = np.arange(ITEMS)
        features = torch.from_numpy(np.stack([rows, category(rows)], axis=1).astype(np.int32))
        return Small(model, model.items(features).detach())

    def search(self, rows, behaviours) -> tuple[Retrieved, GraphInputs]:
        candidates = Candidates(np.asarray(rows, np.int32), category(np.asarray(rows)))
        cross = cross_with_gap(behaviours, AT)
        search = SEARCHES[self.model.search_name](self.model.search_spec, self.model.search_tables(self.vectors))
        retrieved = search(candidates, behaviours, cross)
        return retrieved, graph_inputs(candidates, behaviours, cross, retrieved, self.model.config.recent, CONTEXT)

    def forward(self, inputs: GraphInputs):
        return self.model(self.vectors, {name: torch.from_numpy(inputs[name]) for name in self.model.input_names})

    def logits(self, rows, behaviours) -> np.ndarray:
        """Logit of each candidate, in order."""
        retrieved, inputs = self.search(rows, behaviours)
        with torch.inference_mode():
            logit = self.forward(inputs)[0][0].numpy()
        out = np.empty(len(rows), np.float32)
        out[retrieved.place[retrieved.place >= 0]] = logit[retrieved.place >= 0]
        return out


def category(rows):
    """Category row of each item row, 0 and 1 as they are."""
    rows = np.asarray(rows)
    return np.where(rows < 2, rows, rows % CATEGORIES + 2).astype(np.int32)


def behaviours(rows, gap_s: int = 5000, seed: int = 0) -> Behaviours:
    """Behaviours of these rows, oldest first, `gap_s` apart, the newest `gap_s` before AT."""
    rows = np.asarray(rows, np.int32)
    ts = AT - gap_s * np.arange(len(rows), 0, -1).astype(np.int64)
    cross = np.random.default_rng(seed).integers(0, 4, (len(rows), 1)).astype(np.uint8)
    return Behaviours(rows, category(rows), ts, cross)


def many(length: int, seed: int = 1) -> Behaviours:
    """`length` behaviours of random items."""
    return behaviours(np.random.default_rng(seed).integers(2, ITEMS, length))
