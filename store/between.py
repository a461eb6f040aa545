"""Kernels before a graph of a bundle that reads their answers; another graph makes what they compute from, if a request
and the item tables are not that already."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from numpy.typing import NDArray

from store import bucket_sums, pair_unit, target_row

Arrays = dict[str, NDArray[Any]]
Run = Callable[[Arrays], list[NDArray[Any]]]


class Between(NamedTuple):
    """A kernel and its graphs."""

    before: str | None  # file of the graph whose outputs are the operands; None: they are tables, or stand in the request
    after: str  # file of the graph that reads the request and the answers
    operands: tuple[str, ...]
    answers: tuple[str, ...]
    kernel: Callable[..., tuple[NDArray[Any], ...]]

    @property
    def files(self) -> set[str]:
        """Of the graphs that there are."""
        return {self.after} | ({self.before} if self.before else set())


PAIRS = Between(
    "before_pairs.onnx", "after_pairs.onnx", pair_unit.OPERANDS, ("relevance", "behaviour"), pair_unit.relate_in_pairs
)
ROW = Between(
    "before_target.onnx", "after_target.onnx", target_row.OPERANDS, ("pooled", "share"), target_row.attend_with_itself
)  # fmt: skip
SUMS = Between(None, "after_sums.onnx", bucket_sums.OPERANDS, ("read",), bucket_sums.read_sums)
BETWEEN = (PAIRS, ROW, SUMS)


def run_between(between: Between, before: Run, after: Run, inputs: Arrays) -> list[NDArray[Any]]:
    """What `after` makes of a request (`graph_inputs.py`) and of the kernel's answers to what `before` makes of it."""
    return after(inputs | dict(zip(between.answers, between.kernel(*before(inputs)), strict=True)))


def operands_in(between: Between, tables: Mapping[str, NDArray[Any]]) -> Run:
    """In place of a graph before the kernel: its operands as they are, in a request or in the tables."""
    return lambda inputs: [inputs[name] if name in inputs else tables[name] for name in between.operands]
