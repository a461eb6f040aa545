"""TWIN-V2 (Si et al., CIKM 2024): TWIN over clusters, for lives of 10^5 behaviours.

Offline, every two weeks, older behaviours are clustered (`store/clusters.py`); a cluster of n is one
virtual behaviour, and both stages add ln n to TWIN's relevance, in every head:

    alpha' = alpha + ln n

which is the attention that n equal behaviours would get together. The newest 1,000 behaviours before a
clustering, and those after it, are clusters of one, so that with no cluster at all this is TWIN.
Differences: none known in the attention; what is clustered and how is said in `store/clusters.py` and
`export/data/histories.py` (a cluster of ten shows one item, and which item it was is most of what the
newest past tells); the short branch is target attention over the newest 50 behaviours themselves.
"""

from typing import ClassVar

import torch
from torch import Tensor

from export.models.contract import Sequence
from export.models.registry import register
from export.models.twin import TWIN


@register("twin_v2")
class TWINV2(TWIN):
    """TWIN with cluster-aware attention."""

    search_name = "clusters"
    reads: ClassVar[tuple[str, ...]] = (*TWIN.reads, "retrieved_size")

    def queries(self, target: Tensor) -> Tensor:
        queries = super().queries(target)
        return torch.cat([queries, torch.ones_like(queries[..., :1])], dim=-1)  # ln n counts as it is

    def side(self, user: Sequence) -> Tensor:
        size = user.inputs["retrieved_size"].clamp(min=1)  # 0 at padding, which the mask removes
        return torch.cat([super().side(user), torch.log(size.to(torch.float32)).unsqueeze(-1)], dim=-1)  # no value: `HeadOutput`
