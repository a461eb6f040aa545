"""SDIM (Cao et al., CIKM 2022): attention by hash collision, from a table of a fixed size.

Behaviours fall into buckets by (m, tau)-signatures: m random bits, tau to a signature, m / tau
signatures an item. The interest of a target is the mean over signatures of the normalised sum of the
behaviours in its bucket (eq. 12):

    interest(q) = 1 / G sum_g l2norm( sum_j 1[sig_g(q) = sig_g(s_j)] s_j )

There is nothing to learn in it beside the item vectors. The state is the table of bucket sums,
[m / tau, 2^tau, D], raw, so that a behaviour is folded in by an addition; it is normalised when read.
Differences: an empty bucket gives zeros and still counts in the mean (the paper is silent); unit
length is what the norm gives, not weights that sum to one as a footnote says. Where negative behaviours
are kept, only the short branch tells how they went: the state holds items alone.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.models.around_kernel import KernelModel
from export.models.contract import DataShape, Interest, ModelConfig, Sequence, as_array
from export.models.registry import register
from export.models.stateful import State, StatefulModel, UserState
from store.between import SUMS
from store.signatures import BITS, random_directions, sign


@dataclass(frozen=True)
class SDIMConfig(ModelConfig):
    """Sizes of the signatures."""

    bits: int = 48  # m
    signature_bits: int = 3  # tau


@register("sdim")
class SDIM(StatefulModel, KernelModel):
    """Sampling-based Deep Interest Modeling."""

    config_type = SDIMConfig
    between = SUMS
    answer_axes: ClassVar = {"read": ("U", "G", "S", "D")}
    graph_tables = ("bucket",)
    state_axes = {"bucket_sum": ("signature", "bucket", "D")}  # noqa: RUF012
    config: SDIMConfig
    directions: Tensor

    def __init__(self, shape: DataShape, config: SDIMConfig) -> None:
        super().__init__(shape, config, interest_dim=config.dim)
        if not 0 < config.signature_bits <= config.bits <= BITS:
            raise ValueError(f"sdim: {config.bits} bits in signatures of {config.signature_bits}: at most {BITS} bits in all")
        self.register_buffer("directions", torch.from_numpy(random_directions(config.dim, config.seed)))  # R [D, 64]
        self.signatures, self.buckets = config.bits // config.signature_bits, 2**config.signature_bits

    def initial(self) -> State:
        return {"bucket_sum": torch.zeros(self.signatures, self.buckets, self.config.dim)}

    def fold(self, state: State, behaviours: Sequence) -> State:
        bucket = behaviours.look_up_table("bucket", "retrieved_row").squeeze(1)  # [U, T, signature]
        falls = bucket.unsqueeze(-1) == torch.arange(self.buckets)  # [U, T, signature, bucket]
        falls = (falls & behaviours.mask.squeeze(1)[..., None, None]).to(torch.float32).flatten(2)
        added = torch.matmul(falls.transpose(1, 2), behaviours.item.squeeze(1))  # [U, signature * bucket, D]
        return {"bucket_sum": state["bucket_sum"] + added.view(-1, self.signatures, self.buckets, self.config.dim)}

    def interest(self, target: Tensor, user: UserState) -> Interest:
        sums = nn.functional.normalize(user.state["bucket_sum"], dim=-1)  # [U, signature, bucket, D], empty: zeros
        bucket = user.look_up_table("bucket", "candidate_row")  # [U, G, S, signature]
        falls = nn.functional.embedding(bucket, torch.eye(self.buckets)).flatten(3)  # [U, G, S, signature * bucket]
        # a product with few buckets takes half the time of gathering a vector for each signature
        interest = torch.matmul(falls, (sums / self.signatures).flatten(1, 2).unsqueeze(1))  # [U, G, S, D]
        return Interest(interest, interest)

    def answered(self, target: Tensor, user: None, *answers: Tensor) -> Interest:
        (read,) = answers
        return Interest(read, read)

    def tables(self, item_vector: Tensor) -> dict[str, NDArray[Any]]:
        """`bucket` int32 [n, m / tau]: where an item falls, for each signature."""
        signature = sign(as_array(item_vector), as_array(self.directions))  # uint64 [n]
        shift = (np.arange(self.signatures) * self.config.signature_bits).astype(np.uint64)
        bucket = (signature[:, None] >> shift) & np.uint64(self.buckets - 1)
        return {"bucket": bucket.astype(np.int32)} | self.initial_tables()
