"""Models of a synthetic data set, and requests to them: small enough to check by hand or by brute force."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from export.models import build
from export.models.contract import CTRModel, DataShape, Interest
from store.gaps import BUCKETS
from store.graph_inputs import GraphInputs, cross_with_gap, graph_inputs, recent_inputs
from store.search import SEARCHES
from store.types import Behaviours, Candidates, Retrieved

ITEMS, CATEGORIES = 40, 5
SHAPE = DataShape(item_features=[ITEMS, CATEGORIES + 2], cross_features=[BUCKETS, 4], context=[6])
WITH_NEGATIVES = replace(SHAPE, negative_behaviours=True)
AT = 2_000_000
CONTEXT = np.array([3], np.int32)


@dataclass
class Small:
    """A model, its item vectors, and its search over them."""

    model: CTRModel
    vectors: torch.Tensor

    @staticmethod
    def of(name: str, seed: int = 0, shape: DataShape = SHAPE, **config) -> "Small":
        torch.manual_seed(seed)
        model = build(name, shape, **{"dim": 16, "head_dim": 4, **config}).eval()
        return Small(model, model.items(FEATURES).detach())

    def search(self, rows, behaviours) -> tuple[Retrieved, GraphInputs]:
        candidates = Candidates(np.asarray(rows, np.int32), category(np.asarray(rows)))
        cross = cross_with_gap(behaviours, AT)
        search = SEARCHES[self.model.search_name](self.model.search_spec, self.model.tables(self.vectors))
        retrieved = search(candidates, behaviours, cross)
        inputs = graph_inputs(candidates, behaviours, cross, retrieved, CONTEXT)
        return retrieved, inputs | recent_inputs(behaviours, AT, self.model.config.recent)

    def forward(self, inputs: GraphInputs, training: bool = False):
        """A batch, scored; tables of the graph beside it. In training gradients flow to the item embeddings."""
        vectors = self.model.items(FEATURES) if training else self.vectors
        tables = self.model.tables(vectors)
        names = [*self.model.batch_names, *(name for name in inputs if training and name in DRAWN)]
        arrays = {name: inputs[name] for name in names} | {name: tables[name] for name in self.model.graph_tables}
        return self.model(vectors, {name: torch.from_numpy(array) for name, array in arrays.items()})

    def logits(self, rows, behaviours) -> np.ndarray:
        """Logit of each candidate, in order."""
        _, inputs = self.search(rows, behaviours)
        with torch.inference_mode():
            logit: np.ndarray = self.forward(inputs).logit[0].numpy()
        return logit


def category(rows):
    """Category row of each item row, 0 and 1 as they are."""
    rows = np.asarray(rows)
    return np.where(rows < 2, rows, rows % CATEGORIES + 2).astype(np.int32)


FEATURES = torch.from_numpy(np.stack([np.arange(ITEMS), category(np.arange(ITEMS))], axis=1))
DRAWN = ("negative_row", "sampled_row", "sampled_mask")  # what only training has


def training_inputs(inputs: GraphInputs) -> GraphInputs:
    """What a training batch has beside `inputs`: other items as negatives, and every second one as the sample."""
    row, mask = inputs["retrieved_row"][:, 0], inputs["retrieved_mask"][:, 0]
    negative = np.where(inputs["retrieved_mask"], (inputs["retrieved_row"] + 7) % (ITEMS - 2) + 2, 0).astype(np.int32)
    return {"negative_row": negative, "sampled_row": row[:, ::2], "sampled_mask": mask[:, ::2]}


def behaviours(rows, gap_s: int = 5000, seed: int = 0) -> Behaviours:
    """Behaviours of these rows, oldest first, `gap_s` apart, the newest `gap_s` before AT."""
    rows = np.asarray(rows, np.int32)
    ts = AT - gap_s * np.arange(len(rows), 0, -1).astype(np.int64)
    cross = np.random.default_rng(seed).integers(0, 4, (len(rows), 1)).astype(np.uint8)
    return Behaviours(rows, category(rows), ts, cross)


def many(length: int, seed: int = 1) -> Behaviours:
    """`length` behaviours of random items."""
    return behaviours(np.random.default_rng(seed).integers(2, ITEMS, length))


def whole(found: Interest) -> torch.Tensor:
    """The interest of one request as vectors [1, G, S, *], whatever parts it has."""
    parts = [part if isinstance(part, torch.Tensor) else torch.matmul(part.share, part.few[0]) for part in found.parts]
    return torch.cat(parts, dim=-1)
