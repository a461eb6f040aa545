"""Models whose paper's part is one attention over what was retrieved: SIM, ETA, TWIN, TWIN-V2.

    pooled = sum_k softmax_k(query . behaviour_k) behaviour_k          per head

A query is of the target alone, a behaviour's vector is of the behaviour alone. So a graph need not hold the attention itself:
what is before it and what is after it are two small graphs, and between them each candidate reads its list where it is.
"""

import torch
from torch import Tensor

from export.layers.attention import TargetAttention, attend
from export.models.contract import CTRModel, Interest, Sequence


class AttendingModel(CTRModel):
    """Subclasses say what is asked, of what, and what is made of the answer."""

    attention: TargetAttention

    def queries(self, target: Tensor) -> Tensor:
        """float32 [U, G, S, H, W] of targets [U, G, S, D]."""
        raise NotImplementedError

    def behaviours(self, user: Sequence) -> list[Tensor]:
        """Keys and values in one, the item's vector first: float32 [U, G, K, ..] each, side by side W wide."""
        raise NotImplementedError

    def interest_of(self, pooled: Tensor) -> Tensor:
        """float32 [U, G, S, interest_dim] of what the heads pooled, [U, G, S, H, W]."""
        raise NotImplementedError

    def interest(self, target: Tensor, user: Sequence) -> Interest:
        pooled, weight = attend(self.queries(target), torch.cat(self.behaviours(user), dim=-1), user.mask)
        return self.found(pooled)._replace(weight=weight.mean(dim=3))

    def found(self, pooled: Tensor) -> Interest:
        """The interest without its weights."""
        return Interest(self.interest_of(pooled), pooled[..., : self.config.dim].mean(dim=3))
