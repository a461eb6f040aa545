"""Search by projected inherent features (TWIN, 4.2-4.3): a union of the heads' best behaviours.

    relevance[h, l] = (K_h W_k)[l] . (q W_q) / sqrt(d_k) + bias[h, l]        (eq. 6)

K_h W_k and q W_q of every item are tables, made offline. The bias is what the cross features add:
one number per feature value and head, and the same for all candidates. The K behaviours are taken
from the heads' ranked lists in turn, until K different ones are together.

Every dot product is summed in one fixed order, whatever C and L are: a candidate's relevance does
not depend on what else is in the request.
"""

import numpy as np
from numba import njit

from store.search.spec import Search, nothing, one_by_one
from store.search.top_k import ranked
from store.types import Behaviours, Candidates, Floats, Retrieved, Rows


class ProjectionSearch(Search):
    """Tables `key_projection`, `query_projection` float32 [N, H, d_k] (1/sqrt(d_k) in the latter) and
    `cross_bias` float32 [1 + J, buckets, H]. Cost: C H L d_k multiplications, C H selections."""

    reads = "life"
    item_tables = ("key_projection", "query_projection")
    constants = ("cross_bias",)
    key_projection: Floats
    query_projection: Floats
    cross_bias: Floats

    def __call__(self, candidates: Candidates, behaviours: Behaviours, cross: Rows) -> Retrieved:
        if not len(behaviours):
            return nothing(len(candidates.row))
        key = np.ascontiguousarray(self.key_projection[behaviours.row].transpose(1, 2, 0))  # [H, d_k, L]
        bias = np.ascontiguousarray(bias_of(self.cross_bias, cross).T)  # [H, L]
        query = self.query_projection[candidates.row]  # [C, H, d_k]
        index = union_of_heads(query, key, bias, min(self.k, len(behaviours)))
        return one_by_one(index, len(candidates.row), len(behaviours))


def bias_of(cross_bias: Floats, cross: Rows) -> Floats:
    """Sum of each cross feature's bias: float32 [L, H]."""
    total: Floats = cross_bias[0, cross[:, 0]].copy()
    for j in range(1, cross.shape[1]):
        total += cross_bias[j, cross[:, j]]
    return total


@njit(cache=True, nogil=True)
def union_of_heads(query: Floats, key: Floats, bias: Floats, k: int) -> Rows:
    """Round-robin union of the heads' ranked lists: int32 [C, k], ascending in each row.

    Args:
        query: float32 [C, H, d_k]; key: float32 [H, d_k, L]; bias: float32 [H, L]; k: 1..L.
    """
    heads, width, length = key.shape
    out = np.empty((len(query), k), np.int32)
    relevance = np.empty(length, np.float32)
    scratch, keys = np.empty(length, np.int32), np.empty(length, np.uint64)
    best = np.empty((heads, k), np.int32)
    seen = np.full(length, -1, np.int32)  # the candidate that took this behaviour last
    for c in range(len(query)):
        for h in range(heads):
            relevance[:] = bias[h]
            d = 0
            while d + 4 <= width:  # four at a time: the relevances are loaded and stored a quarter as often
                q0, q1, q2, q3 = query[c, h, d], query[c, h, d + 1], query[c, h, d + 2], query[c, h, d + 3]
                k0, k1, k2, k3 = key[h, d], key[h, d + 1], key[h, d + 2], key[h, d + 3]
                for i in range(length):
                    relevance[i] += (q0 * k0[i] + q1 * k1[i]) + (q2 * k2[i] + q3 * k3[i])
                d += 4
            while d < width:
                q0, k0 = query[c, h, d], key[h, d]
                for i in range(length):
                    relevance[i] += q0 * k0[i]
                d += 1
            ranked(relevance, k, scratch, keys, best[h])
        taken = 0
        for rank in range(k):
            for h in range(heads):
                i = best[h, rank]
                if taken < k and seen[i] != c:
                    seen[i] = c
                    out[c, taken] = i
                    taken += 1
        out[c] = np.sort(out[c])
    return out
