"""Models that score from a state: behaviours are folded into it in order, and never read again.

A state is a few tensors of fixed size. In training and evaluation it is folded here, from the
behaviours of the batch; a service folds the same function, exported as `update.onnx`, and feeds the
state to the graph.
"""

from typing import Any, ClassVar, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.models.contract import CTRModel, Sequence, as_array

State = dict[str, Tensor]  # by name, each [U, ...]


class UserState(NamedTuple):
    """What `interest` is told: the state, and the batch to look up what else it reads."""

    state: State
    inputs: dict[str, Tensor]

    def look_up_table(self, table: str, rows: str) -> Tensor:
        """Entries [..., *] of an item table for an input that holds rows."""
        return nn.functional.embedding(self.inputs[rows], self.inputs[table])


class StatefulModel(CTRModel):
    """Base of models with a state. Subclasses set `state_axes` and implement `initial` and `fold`."""

    search_name = "life"
    explains = False
    reads = ()
    state_axes: ClassVar[dict[str, tuple[str, ...]]]  # axes of each tensor after U
    fold_at_once: ClassVar[int | None] = None  # behaviours that one update folds; None = any number

    @property
    def input_names(self) -> list[str]:
        return ["candidate_row", *self.state_axes, *self.branch_names]

    @property
    def batch_names(self) -> list[str]:
        return ["candidate_row", "retrieved_row", "retrieved_mask", *self.branch_names]

    @property
    def constants(self) -> set[str]:
        return super().constants | {f"initial_{name}" for name in self.state_axes}

    def user(self, item_vector: Tensor, inputs: dict[str, Tensor]) -> Any:
        """The state: folded from the retrieved behaviours where they are given, else an input."""
        if "retrieved_row" not in inputs:
            return UserState({name: inputs[name] for name in self.state_axes}, inputs)
        item = nn.functional.embedding(inputs["retrieved_row"], item_vector)
        empty = {name: value.expand(len(item), *value.shape) for name, value in self.initial().items()}
        state = self.fold(empty, Sequence(item, inputs["retrieved_mask"], inputs, item_vector))
        return UserState(state, inputs)

    def initial_tables(self) -> dict[str, NDArray[Any]]:
        """The empty user's state as tables: `initial_<name>` float32, axes as in `state_axes`."""
        return {f"initial_{name}": as_array(value) for name, value in self.initial().items()}

    def weights_to_fold(self) -> dict[str, NDArray[Any]]:
        """What a kernel of `store` needs to fold without the graph; empty: there is none for this model."""
        return {}

    def initial(self) -> State:
        """The state of a user without behaviours, tensors without the axis U."""
        raise NotImplementedError

    def fold(self, state: State, behaviours: Sequence) -> State:
        """The state after `behaviours` (G = 1), oldest first; masked ones leave it as it is."""
        raise NotImplementedError


class Update(nn.Module):
    """`fold` for one user, as a graph has it: state and behaviour rows [1, 1, T] -> state."""

    def __init__(self, model: StatefulModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, *arrays: Tensor) -> tuple[Tensor, ...]:
        """item_vector, the model's graph_tables, its state, retrieved_row."""
        model = self.model
        item_vector, *rest = arrays
        tables, state, row = rest[: len(model.graph_tables)], rest[len(model.graph_tables) : -1], rest[-1]
        inputs = dict(zip(model.graph_tables, tables, strict=True)) | {"retrieved_row": row}
        item = nn.functional.embedding(row, item_vector)
        behaviours = Sequence(item, torch.ones_like(row, dtype=torch.bool), inputs, item_vector)
        folded = model.fold(dict(zip(model.state_axes, state, strict=True)), behaviours)
        return tuple(folded[name] for name in model.state_axes)
