"""A bundle's further graphs, for GPUs: the search in the graph, and both in float16."""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from export.half_precision import write_half_graph
from export.models.contract import CTRModel
from export.models.stateful import StatefulModel
from export.search_graph import write_search_graph
from store.bundle import GRAPH, graph_file
from store.life_inputs import GRAPH_SEARCHES


def write_device_graphs(model: CTRModel, tables: dict[str, NDArray[Any]], folder: Path) -> None:
    """Write beside `score.onnx`: `search_score.onnx` where a graph can do the model's search, `.._float16.onnx` of both."""
    search = model.search_spec
    plain, half = folder / GRAPH, folder / graph_file("float16")
    if not isinstance(model, StatefulModel):
        write_half_graph(plain, set(tables), half)
    if search.name in GRAPH_SEARCHES:
        write_search_graph(plain, search.name, search.k, tables, folder / graph_file("float32", searches=True))
        write_search_graph(half, search.name, search.k, tables, folder / graph_file("float16", searches=True))
