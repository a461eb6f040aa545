"""Is a bundle what was trained? Its own graphs and tables, run by onnxruntime, against the golden scores."""

from functools import partial
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from export.batches import in_lists, own_clusters, search_request
from store.attention import attend_in_lists
from store.between import operands_in, run_between
from store.bundle import AFTER, BEFORE, GRAPH, ITEM_VECTOR, UPDATE, Bundle, BundleInvalid
from store.fold import AT_ONCE_BY_KERNEL, State, fold, initial_state
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
    states: list[State] = [{}]
    if manifest.state:
        state = initial_state(bundle.tables, [spec.name for spec in manifest.state])
        row = inputs["retrieved_row"][inputs["retrieved_mask"]]
        states = [fold(lambda feed: _run(bundle, UPDATE, feed), state, row, manifest.fold_at_once)]
        if (kernel := bundle.fold_kernel) is not None:
            states.append(fold(lambda feed: kernel(feed, bundle.tables), state, row, AT_ONCE_BY_KERNEL))
    logits = [_run(bundle, GRAPH, inputs | state)[0] for state in states]
    if bundle.attends_in_lists:
        listed = in_lists(request, golden.at, golden.context, manifest.recent)
        graphs = partial(_named, bundle, BEFORE), partial(_run, bundle, AFTER)
        logits.append(attend_in_lists(*graphs, listed, bundle.tables[ITEM_VECTOR])[0])
    if between := bundle.between:
        before = partial(_run, bundle, between.before) if between.before else operands_in(between, bundle.tables)
        after = partial(_run, bundle, between.after)
        logits += [run_between(between, before, after, inputs | state)[0] for state in states]
    difference = float(max(np.abs(scores_of(logit[0]) - golden.scores).max() for logit in logits))
    if not difference <= manifest.tolerance.cpu:
        raise BundleInvalid(f"{bundle.folder}: golden scores differ by {difference:.2g}, tolerance {manifest.tolerance.cpu:.2g}")
    return difference


def _run(bundle: Bundle, graph: str, inputs: GraphInputs) -> list[NDArray[Any]]:
    return list(_named(bundle, graph, inputs).values())


def _named(bundle: Bundle, graph: str, inputs: GraphInputs) -> GraphInputs:
    """Outputs by name, in their order."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns of what the exporter left in a graph
    session = onnxruntime.InferenceSession(bundle.folder / graph, options, providers=["CPUExecutionProvider"])
    names = {node.name for node in session.get_inputs()}
    found = session.run(None, {name: value for name, value in {**bundle.tables, **inputs}.items() if name in names})
    return dict(zip((node.name for node in session.get_outputs()), found, strict=True))
