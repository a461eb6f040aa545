"""A bundle's scoring graph on the CPU: in one piece, or around what a kernel does."""

from functools import partial
from typing import Any, Literal

from numpy.typing import NDArray

from service.cpu_session import CPUSession, values
from service.tables import Tables
from store.attention import attend_in_lists
from store.between import Between, operands_in, run_between
from store.bundle import AFTER, BEFORE, GRAPH, ITEM_VECTOR, Bundle, BundleInvalid, inputs_around, split_inputs
from store.graph_inputs import GraphInputs


class WholeGraph:
    """The graph that does everything."""

    device: Literal["cpu"] = "cpu"
    takes: Literal["groups"] = "groups"
    precision = "float32"

    def __init__(self, bundle: Bundle, threads: int) -> None:
        """Load. Raises BundleInvalid as `CPUSession`."""
        self._session = CPUSession(bundle, GRAPH, {spec.name for spec in bundle.manifest.inputs}, threads)

    def explaining(self, inputs: GraphInputs) -> list[str]:
        """Outputs that explain the logits."""
        return [name for name in self._session.outputs if name == "weight"]

    def run(self, inputs: GraphInputs, outputs: list[str], tables: Tables | None) -> list[NDArray[Any]]:
        """The outputs asked for; `tables` in place of the bundle's, by name."""
        return self._session.run(inputs, outputs, values(tables))


class KernelGraph:
    """The graphs before and after, and the kernel between them that computes what a graph would write out. Some kernels
    need nothing before them."""

    device: Literal["cpu"] = "cpu"
    takes: Literal["groups"] = "groups"
    precision = "float32"

    def __init__(self, bundle: Bundle, threads: int, between: Between) -> None:
        """Load. Raises BundleInvalid as `CPUSession`, and where the graph before does not give what the kernel takes."""
        before, after = inputs_around(between, [spec.name for spec in bundle.manifest.inputs])
        self._before = CPUSession(bundle, between.before, set(before), threads) if between.before else None
        if self._before and sorted(self._before.outputs) != sorted(between.operands):
            path = bundle.folder / str(between.before)
            raise BundleInvalid(f"{path}: outputs {sorted(self._before.outputs)}, the kernel takes {sorted(between.operands)}")
        self._after = CPUSession(bundle, between.after, set(after), threads)
        self._between, self._tables = between, bundle.tables

    def explaining(self, inputs: GraphInputs) -> list[str]:
        """Outputs that explain the logits."""
        return [name for name in self._after.outputs if name == "weight"]

    def run(self, inputs: GraphInputs, outputs: list[str], tables: Tables | None) -> list[NDArray[Any]]:
        """The outputs asked for; `tables` in place of the bundle's, by name."""
        bound = values(tables)
        if self._before is None:
            before = operands_in(self._between, {**self._tables, **(tables or {})})
        else:
            before = partial(self._before.run, outputs=list(self._between.operands), tables=bound)
        return run_between(self._between, before, partial(self._after.run, outputs=outputs, tables=bound), inputs)


class ListGraph:
    """The graphs before and after, and the kernel between them that attends to lists."""

    device: Literal["cpu"] = "cpu"
    takes: Literal["lists"] = "lists"
    precision = "float32"

    def __init__(self, bundle: Bundle, threads: int) -> None:
        """Load. Raises BundleInvalid as `CPUSession`."""
        before, after = split_inputs([spec.name for spec in bundle.manifest.inputs])
        self._before = CPUSession(bundle, BEFORE, set(before), threads)
        self._after = CPUSession(bundle, AFTER, set(after), threads)
        self._item_vector = bundle.tables[ITEM_VECTOR]

    def explaining(self, inputs: GraphInputs) -> list[str]:
        """Outputs that explain the logits."""
        return ["weight"]

    def run(self, inputs: GraphInputs, outputs: list[str], tables: Tables | None) -> list[NDArray[Any]]:
        """The outputs asked for, of inputs in lists; `tables` in place of the bundle's, by name."""
        bound = values(tables)
        after = partial(self._after.run, outputs=["logit"], tables=bound)
        item_vector = (tables or {}).get(ITEM_VECTOR, self._item_vector)

        def before(inputs: GraphInputs) -> GraphInputs:
            names = self._before.outputs
            return dict(zip(names, self._before.run(inputs, names, bound), strict=True))

        logit, weight = attend_in_lists(before, after, inputs, item_vector, "weight" in outputs)
        return [logit] if weight is None else [logit, weight[None]]
