"""Models whose part on a processor is a kernel between graphs: DIN, DMIN (`store/pair_unit.py`), BST (`store/target_row.py`),
SDIM (`store/bucket_sums.py`, which needs no graph before it).

A graph would write out what a layer or a head makes of every pair of a target and a behaviour, and pass over it many times.
"""

from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from export.models.contract import CTRModel, Interest, Sequence
from store.between import PAIRS, Between
from store.search.lanes import LANES
from store.search.tiles import COLUMNS


class KernelModel(CTRModel):
    """Subclasses say what the kernel computes from, if a graph makes that, and what is made of its answers."""

    between: ClassVar[Between]
    answer_axes: ClassVar[dict[str, tuple[str, ...]]]

    def operands(self, target: Tensor, user: Sequence) -> tuple[Tensor, ...]:
        """Those of the kernel, from targets [1, 1, S, D] and the user's behaviours."""
        raise NotImplementedError

    def answered(self, target: Tensor, user: Any, *answers: Tensor) -> Interest:
        """The interest, from what the kernel answered; `user` is None without a graph before it."""
        raise NotImplementedError


class PairOperands(NamedTuple):
    """Of one request and H networks, with the names and meanings of `store.pair_unit`."""

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

    def widened(self) -> "PairOperands":
        """With layers as wide as the kernel wants them: units that are added have weights of 0."""
        first = {name: _widened(getattr(self, name), LANES) for name in ("offset", "of_target", "of_product", "first_gate")}
        second = {name: _widened(getattr(self, name), COLUMNS) for name in ("second", "second_gate", "out")}
        second["second"] = _widened(second["second"].transpose(1, 2), LANES).transpose(1, 2)
        return self._replace(**first, **second)


def _widened(tensor: Tensor, to: int) -> Tensor:
    """With zeros along the last axis, to a multiple of `to`."""
    beyond = -tensor.shape[-1] % to
    return nn.functional.pad(tensor, (0, beyond)) if beyond else tensor


class PairModel(KernelModel):
    """Relevance is a small network over every pair of a target and a behaviour."""

    between = PAIRS
    answer_axes: ClassVar = {"relevance": ("H", "K", "S"), "behaviour": ("H", "K", "D")}

    def answered(self, target: Tensor, user: Sequence, *answers: Tensor) -> Interest:
        relevance, behaviour = answers
        return self.found(relevance.transpose(1, 2).unsqueeze(1), behaviour.unsqueeze(1), user)

    def found(self, relevance: Tensor, behaviour: Tensor, user: Sequence) -> Interest:
        """The interest, from relevance [X, Y, S, K] and behaviours [X, Y, K, D]; with one request X x Y = H."""
        raise NotImplementedError
