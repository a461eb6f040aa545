"""Fold behaviours into a user's state, by a bundle's own graph.

A state is what a model keeps of a user instead of behaviours: a few arrays of fixed size. The graph takes
them and some behaviours, and gives them back as they are after those behaviours.
"""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.graph_inputs import GraphInputs
from store.types import Rows

AT_ONCE = 4096  # behaviours of one run, where the graph takes any number
AT_ONCE_BY_KERNEL = 256  # 2 ms of the slower one: so often is looked at the clock

State = dict[str, NDArray[Any]]  # by name, each [1, ...]
FoldKernel = Callable[[GraphInputs, Mapping[str, NDArray[Any]]], list[NDArray[Any]]]  # what an update graph takes, item tables


class OutOfTime(Exception):
    """Folding took longer than it may."""


def fold(
    run: Callable[[GraphInputs], list[NDArray[Any]]], state: State, row: Rows, at_once: int | None, until: float = math.inf
) -> State:  # fmt: skip
    """The state after the behaviours `row` int32 [L], oldest first.

    Args:
        run: the update graph, from its inputs by name to the arrays of the state, in their order.
        at_once: how many behaviours the graph takes; None = any number.
        until: on the clock of perf_counter; looked at before every run.

    Cost: L / at_once runs of the graph.

    Raises:
        OutOfTime: not done by `until`.
    """
    step = at_once or AT_ONCE
    for first in range(0, len(row), step):
        if time.perf_counter() > until:
            raise OutOfTime
        folded = run({**state, "behaviour_row": row[None, None, first : first + step]})
        state = dict(zip(state, folded, strict=True))
    return state


def initial_state(tables: dict[str, NDArray[Any]], names: list[str]) -> State:
    """The state of a user without behaviours, as the bundle's tables `initial_<name>` have it."""
    return {name: np.asarray(tables[f"initial_{name}"])[None] for name in names}
