"""Kernels between two graphs of a bundle: one makes what they compute from, the other reads their answers."""

from collections.abc import Callable
from typing import Any, NamedTuple

from numpy.typing import NDArray

from store import pair_unit, target_row

Arrays = dict[str, NDArray[Any]]
Run = Callable[[Arrays], list[NDArray[Any]]]


class Between(NamedTuple):
    """A kernel and its two graphs."""

    before: str  # file of the graph whose outputs are the operands
    after: str  # file of the graph that reads the request and the answers
    operands: tuple[str, ...]
    answers: tuple[str, ...]
    kernel: Callable[..., tuple[NDArray[Any], ...]]


PAIRS = Between(
    "before_pairs.onnx", "after_pairs.onnx", pair_unit.OPERANDS, ("relevance", "behaviour"), pair_unit.relate_in_pairs
)
ROW = Between(
    "before_row.onnx", "after_row.onnx", target_row.OPERANDS, ("pooled", "share"), target_row.attend_with_itself
)  # fmt: skip
BETWEEN = (PAIRS, ROW)


def run_between(between: Between, before: Run, after: Run, inputs: Arrays) -> list[NDArray[Any]]:
    """What `after` makes of a request (`graph_inputs.py`) and of the kernel's answers to what `before` makes of it."""
    return after(inputs | dict(zip(between.answers, between.kernel(*before(inputs)), strict=True)))
