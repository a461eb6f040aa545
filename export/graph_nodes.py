"""A graph in the making, node by node."""

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper


class Nodes:
    """A graph in the making: every call adds a node and gives the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def __call__(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Name of the output, or the names of several."""
        names = [f"search_{operator}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, f"search_{operator}_{len(self.nodes)}", **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, value: Any) -> str:
        """A constant of the value's own type."""
        name = f"search_constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def axes(self, *numbers: int) -> str:
        """Whole numbers as int64 [n]: what operators ask for where they want axes, ends of slices, or a k."""
        return self.constant(np.array(numbers))

    def top(self, values: str, k: str, largest: bool = True) -> tuple[str, str]:
        """The k (int64 [1]) largest or least of the last axis, sorted, and where they stand (int64)."""
        value, place = self("TopK", values, k, outputs=2, axis=-1, largest=int(largest))
        return value, place

    def cast(self, value: str, to: int) -> str:
        """As another type."""
        name: str = self("Cast", value, to=to)
        return name

    def reshape(self, value: str, shape: list[int]) -> str:
        """In another shape: -1 = what is left, 0 = as it was."""
        name: str = self("Reshape", value, self.axes(*shape))
        return name

    def name(self, value: str, name: str) -> None:
        """Give a value a name that others know."""
        self.nodes.append(helper.make_node("Identity", [value], [name]))
