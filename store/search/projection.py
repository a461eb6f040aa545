"""Search by projected inherent features (TWIN, 4.2-4.3): a union of the heads' best behaviours.

    relevance[h, l] = (K_h W_k)[l] . (q W_q) / sqrt(d_k) + bias[h, l]        (eq. 6)

K_h W_k and q W_q of every item are tables, made offline. The bias is what the cross features add:
one number per feature value and head, and the same for all candidates. The K behaviours are taken
from the heads' ranked lists in turn, until K different ones are together.

Every dot product is summed in one fixed order, whatever C and L are: a candidate's relevance does
not depend on what else is in the request. Most dot products are only bounded, by bytes: `relevance`.
"""

from functools import cached_property

import numpy as np

from store.search.packing import PackedKeys
from store.search.relevance import union_of_heads
from store.search.spec import Search, nothing, one_by_one
from store.types import Behaviours, Candidates, Floats, Retrieved, Rows


class ProjectionSearch(Search):
    """Tables `key_projection`, `query_projection` float32 [N, H, d_k] (1/sqrt(d_k) in the latter) and
    `cross_bias` float32 [1 + J, buckets, H]. Cost: C H L d_k multiplications of bytes; once, 0.1 us an item, and
    a quarter of `key_projection` in memory."""

    reads = "life"
    item_tables = ("key_projection", "query_projection")
    constants = ("cross_bias",)
    key_projection: Floats
    query_projection: Floats
    cross_bias: Floats

    @cached_property
    def packed_keys(self) -> PackedKeys:
        """The keys as bytes, made when they are first asked for."""
        return PackedKeys.of(self.key_projection)

    def check(self, buckets: list[int]) -> None:
        key, query, bias = self.key_projection, self.query_projection, self.cross_bias
        if key.shape != query.shape or key.ndim != 3:
            raise ValueError(f"key_projection {key.shape}, query_projection {query.shape}: [N, H, d_k] both")
        needed = (len(buckets), max(buckets), key.shape[1])
        if bias.ndim != 3 or bias.shape[0] != needed[0] or bias.shape[1] < needed[1] or bias.shape[2] != needed[2]:
            raise ValueError(f"cross_bias {bias.shape}, the schema and the heads need {needed}")

    def bias(self, behaviours: Behaviours, cross: Rows) -> Floats:
        """What each behaviour's relevance has from itself, for every candidate: float32 [L, H]."""
        return bias_of(self.cross_bias, cross)

    def __call__(self, candidates: Candidates, behaviours: Behaviours, cross: Rows) -> Retrieved:
        if not len(behaviours):
            return nothing(len(candidates.row))
        bias = np.ascontiguousarray(self.bias(behaviours, cross), np.float32)  # [L, H]
        query = self.query_projection[candidates.row]  # [C, H, d_k]
        k = min(self.k, len(behaviours))
        index = union_of_heads(query, self.key_projection, self.packed_keys, behaviours.row, bias, k)
        return one_by_one(index, len(candidates.row), len(behaviours))


def bias_of(cross_bias: Floats, cross: Rows) -> Floats:
    """Sum of each cross feature's bias: float32 [L, H]."""
    total: Floats = np.take(cross_bias[0], cross[:, 0], axis=0)
    for j in range(1, cross.shape[1]):
        total += np.take(cross_bias[j], cross[:, j], axis=0)  # by an index it takes five times as long
    return total
