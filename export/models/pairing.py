"""Models whose relevance is a small network over every pair of a target and a behaviour: DIN, DMIN.

What it computes from and what is made of its answer are two small graphs. Between them a kernel computes it
(`store/pair_unit.py`): a graph would write out each layer of every pair.
"""

from typing import NamedTuple

from torch import Tensor

from export.models.contract import CTRModel, Interest, Sequence


class PairOperands(NamedTuple):
    """Of one request and H networks, with the names and meanings of `store.pair_unit.OPERANDS`."""

    target: Tensor  # [H, S, D]
    behaviour: Tensor  # [H, K, D]
    offset: Tensor  # [H, K, F]
    of_target: Tensor  # [H, D, F]
    of_product: Tensor  # [H, D, F]
    first_gate: Tensor  # [H, 4, F]
    second: Tensor  # [H, F, N]
    second_gate: Tensor  # [H, 4, N]
    out: Tensor  # [H, N]
    bias: Tensor  # [H, 1]


class PairModel(CTRModel):
    """Subclasses say what is computed from, and what is made of the answer."""

    def operands(self, target: Tensor, user: Sequence) -> PairOperands:
        """Of targets [1, 1, S, D] and the user's behaviours."""
        raise NotImplementedError

    def found(self, relevance: Tensor, behaviour: Tensor, user: Sequence) -> Interest:
        """The interest, from relevance [X, Y, S, K] and behaviours [X, Y, K, D]; with one request X x Y = H."""
        raise NotImplementedError
