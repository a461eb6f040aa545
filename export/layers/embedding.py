"""Item vectors: the embeddings of an item's features, side by side."""

import torch
from torch import Tensor, nn

INITIAL_STD = 0.5  # large enough that equal features stand out in a dot product from the first step


def feature_widths(features: int, total: int) -> list[int]:
    """D split evenly over the features, the remainder to the item id."""
    each = total // features
    return [total - each * (features - 1), *[each] * (features - 1)]


class ItemEmbedding(nn.Module):
    """One sparse table per feature; 0 = padding (zeros), 1 = unknown (trained).

    Gradients touch only the rows of a batch; `export.train` steps them with a sparse optimiser.
    """

    def __init__(self, sizes: list[int], total: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList(
            nn.Embedding(size, width, padding_idx=0, sparse=True)
            for size, width in zip(sizes, feature_widths(len(sizes), total), strict=True)
        )
        for table in self.tables:
            assert isinstance(table, nn.Embedding)
            nn.init.normal_(table.weight, std=INITIAL_STD)
            with torch.no_grad():
                table.weight[0].zero_()

    def forward(self, features: Tensor) -> Tensor:
        """Vectors float32 [n, D] of items given by their features int [n, F]."""
        return torch.cat([table(features[:, f]) for f, table in enumerate(self.tables)], dim=-1)

    def minibatch_l2(self, features: Tensor, counts: list[Tensor]) -> Tensor:
        """Mini-batch-aware L2 (DIN, eq. 6-7): half the sum of |w_j|^2 / n_j over the ids j that a batch holds.

        Args:
            features: int [n, F] of the batch's items, in any order and number.
            counts: n_j, float32 [values] for each feature; ids that never occur count as 1.
        """
        total = features.new_zeros((), dtype=torch.float32)
        for f, table in enumerate(self.tables):
            present = torch.unique(features[:, f])
            total = total + (table(present).square().sum(dim=1) / counts[f][present].clamp(min=1)).sum() / 2
        return total


class CrossEmbedding(nn.Module):
    """Embeddings of the bucketed features of a behaviour; all features in one table, one after another."""

    starts: Tensor

    def __init__(self, sizes: list[int], width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(sum(sizes), width)
        nn.init.normal_(self.table.weight, std=INITIAL_STD)
        starts = torch.tensor([sum(sizes[:j]) for j in range(len(sizes))], dtype=torch.int32)
        self.register_buffer("starts", starts, persistent=False)

    def forward(self, cross: Tensor) -> Tensor:
        """float32 [..., J, width] of buckets int32 [..., J]."""
        out: Tensor = self.table(cross + self.starts.expand(cross.shape[-2:]))  # of whole rows: see `FoldedDice`
        return out
