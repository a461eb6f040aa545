"""Our labelled requests in the form that FuxiCTR's LongCTR models read.

One impression a row, the user's newest behaviours repeated for every candidate: a batch is a triple of
scalar columns (context, label), item columns of the L behaviours and then the target, flattened to
[B * (L + 1)], and a mask of the behaviours. Batches are made as they are asked for, from the prepared
data, so that one batch is all that is held. The package's own loader is left out: it keeps the tables
in pandas and pads a batch to its longest history, where four of the models fail below their short
sequence.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from export.data.dataset import Dataset
from export.data.requests import Requests
from store.types import PADDING, Mask, Rows

LABEL = "label"

ZooBatch = tuple[dict[str, Tensor], dict[str, Tensor], Tensor]


def item_columns(dataset: Dataset) -> list[str]:
    """Names of the item columns [F]; by position, since a feature of own data may have any name."""
    return [f"item_{f}" for f in range(len(dataset.items.names))]


def context_columns(dataset: Dataset) -> list[str]:
    """Names of the context columns [F]."""
    return [f"context_{f}" for f in range(len(dataset.schema.context))]


class ZooImpressions:
    """The impressions of some requests, in their order, as batches of the zoo's form."""

    def __init__(self, dataset: Dataset, requests: Requests, length: int, padding_first: bool = True) -> None:
        """`length`: L, newest behaviours kept; `padding_first`: short histories end at place L - 1, else begin at 0."""
        self.dataset, self.requests, self.length, self.padding_first = dataset, requests, length, padding_first
        self.request = np.repeat(np.arange(len(requests)), np.diff(requests.start))  # [impressions]

    def __len__(self) -> int:
        return len(self.requests.row)

    def rows(self, impressions: NDArray[np.intp]) -> tuple[Rows, Mask]:
        """Item rows int32 [B, L + 1], oldest behaviour first and the target last, and the mask bool [B, L].

        Behaviours are those strictly before the request; padding is row 0; a user without behaviours
        has padding only. Cost: one look-up of a history per impression.
        """
        rows = np.full((len(impressions), self.length + 1), PADDING, np.int32)
        mask = np.zeros((len(impressions), self.length), np.bool_)
        for place, request in enumerate(self.request[impressions]):
            history = self.dataset.history(int(self.requests.user[request]), int(self.requests.at[request]))
            newest = history.row[-self.length :]
            first = self.length - len(newest) if self.padding_first else 0
            rows[place, first : first + len(newest)] = newest
            mask[place, first : first + len(newest)] = True
        rows[:, -1] = self.requests.row[impressions]
        return rows, mask

    def batch(self, impressions: NDArray[np.intp]) -> ZooBatch:
        """One batch: context and label int64/float32 [B], item columns int64 [B * (L + 1)], mask float32 [B, L]."""
        rows, mask = self.rows(impressions)
        features = self.dataset.items.value[rows.ravel()].astype(np.int64)
        context = self.requests.context[self.request[impressions]].astype(np.int64)
        scalars = {name: torch.from_numpy(context[:, f]) for f, name in enumerate(context_columns(self.dataset))}
        scalars[LABEL] = torch.from_numpy(self.requests.label[impressions])
        items = {name: torch.from_numpy(features[:, f]) for f, name in enumerate(item_columns(self.dataset))}
        return scalars, items, torch.from_numpy(mask.astype(np.float32))

    def parts(self, size: int, order: NDArray[np.intp] | None = None) -> list[NDArray[np.intp]]:
        """The impressions, or those in `order`, parted into runs of nearly equal size, at most `size`.

        Equal, because the zoo's DIEN fails on a batch with one single history.
        """
        order = np.arange(len(self)) if order is None else order
        return np.array_split(order, max(-(-len(order) // size), 1))
