"""Is a bundle what was trained? Its own graphs and tables, run by onnxruntime, against the golden scores."""

from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from export.batches import own_clusters, search_request
from store.bundle import GRAPH, UPDATE, Bundle, BundleInvalid
from store.fold import fold, initial_state
from store.graph_inputs import GraphInputs, scores_of


def verify(bundle: Bundle) -> float:
    """Largest difference between the golden scores and onnxruntime's.

    Raises:
        BundleInvalid: it is above the manifest's tolerance.
    """
    golden, manifest = bundle.golden, bundle.manifest
    snapshot = own_clusters(bundle.search, golden.behaviours, golden.at, bundle.tables, manifest.schema_)
    request = search_request(
        bundle.search, manifest.recent, golden.candidates, golden.behaviours, golden.at, golden.context, snapshot
    )
    inputs = request.inputs
    if manifest.state:
        state = initial_state(bundle.tables, [spec.name for spec in manifest.state])
        row = inputs["retrieved_row"][inputs["retrieved_mask"]]
        inputs = inputs | fold(lambda feed: _run(bundle, UPDATE, feed), state, row, manifest.fold_at_once)
    scores = scores_of(_run(bundle, GRAPH, inputs)[0][0])
    difference = float(np.abs(scores - golden.scores).max())
    if not difference <= manifest.tolerance.cpu:
        raise BundleInvalid(f"{bundle.folder}: golden scores differ by {difference:.2g}, tolerance {manifest.tolerance.cpu:.2g}")
    return difference


def _run(bundle: Bundle, graph: str, inputs: GraphInputs) -> list[NDArray[Any]]:
    session = onnxruntime.InferenceSession(bundle.folder / graph, providers=["CPUExecutionProvider"])
    names = {node.name for node in session.get_inputs()}
    found: list[NDArray[Any]] = session.run(
        None, {name: value for name, value in {**bundle.tables, **inputs}.items() if name in names}
    )
    return found
