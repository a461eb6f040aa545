"""Is a bundle what was trained? Its own graph and tables, run by onnxruntime, against the golden scores."""

import numpy as np
import onnxruntime

from export.batches import search_request
from store.bundle import GRAPH, ITEM_VECTOR, Bundle, BundleInvalid
from store.graph_inputs import scores_of


def verify(bundle: Bundle) -> float:
    """Largest difference between the golden scores and onnxruntime's.

    Raises:
        BundleInvalid: it is above the manifest's tolerance.
    """
    golden, manifest = bundle.golden, bundle.manifest
    request = search_request(bundle.search, manifest.recent, golden.candidates, golden.behaviours, golden.at, golden.context)
    session = onnxruntime.InferenceSession(bundle.folder / GRAPH, providers=["CPUExecutionProvider"])
    feed = {spec.name: request.inputs[spec.name] for spec in manifest.inputs if spec.name != ITEM_VECTOR}
    (logit,) = session.run(["logit"], {**feed, ITEM_VECTOR: bundle.tables[ITEM_VECTOR]})
    scores = scores_of(logit[0], request.retrieved.place, len(golden.scores))
    difference = float(np.abs(scores - golden.scores).max())
    if not difference <= manifest.tolerance.cpu:
        raise BundleInvalid(f"{bundle.folder}: golden scores differ by {difference:.2g}, tolerance {manifest.tolerance.cpu:.2g}")
    return difference
