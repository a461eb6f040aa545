"""Models whose paper's part is one attention over what was retrieved: SIM, ETA, TWIN, TWIN-V2.

    pooled = sum_k softmax_k(query . behaviour_k) behaviour_k          per head

A query is of the target alone, a behaviour's vector is of the behaviour alone. So a graph need not hold the attention itself:
what is before it and what is after it are two small graphs, and between them each candidate reads its list where it is.
"""

import torch
from torch import Tensor, nn

from export.layers.attention import HeadOutput, SideBySide, TargetAttention, attend
from export.models.contract import CTRModel, DataShape, Interest, ModelConfig, Sequence


class AttendingModel(CTRModel):
    """Subclasses say what is asked, of what, and by `out` what is made of the answer."""

    attention: TargetAttention

    def __init__(self, shape: DataShape, config: ModelConfig, interest_dim: int) -> None:
        super().__init__(shape, config, interest_dim)
        self.gap: nn.Embedding | None = None  # of the time gap's bucket, where that is all that stands beside an item
        self.out: HeadOutput | SideBySide = SideBySide(config.dim)

    def queries(self, target: Tensor) -> Tensor:
        """float32 [U, G, H, S, D + E] of targets [U, G, S, D]."""
        return self.attention.queries(target)

    def side(self, user: Sequence) -> Tensor:
        """What a behaviour's vector has beside its item's: float32 [U, G, K, E]."""
        assert self.gap is not None
        side: Tensor = self.gap(user.gap)
        return side

    def interest(self, target: Tensor, user: Sequence) -> Interest:
        pooled, weight = attend(self.queries(target), torch.cat([user.item, self.side(user)], dim=-1), user.mask)
        return self.found(pooled)._replace(weight=weight.mean(dim=2))

    def found(self, pooled: Tensor) -> Interest:
        """The interest without its weights, of what the heads pooled, float32 [U, G, H, S, D + E]."""
        return Interest(self.out(pooled), pooled[..., : self.config.dim].mean(dim=2))
