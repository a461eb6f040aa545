"""From a finished run to a bundle: graph, tables, registry, golden request, manifest last."""

import platform
import shutil
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from export.batches import SearchedRequest, in_lists, own_clusters, search_request
from export.data.dataset import ITEMS_FILE, Dataset
from export.device_graphs import write_device_graphs
from export.graph import export_graph, export_update, table_axes
from export.kernel_graphs import write_kernel_graphs
from export.list_graphs import write_list_graphs
from export.models.around_kernel import KernelModel
from export.models.attending import AttendingModel
from export.models.contract import CTRModel
from export.models.stateful import StatefulModel
from export.precompute import precomputed, write_tables
from export.run import Run
from export.snapshots import snapshot_id
from export.start import BUNDLED_WEIGHTS
from store.bundle import (
    GOLDEN,
    GRAPH,
    ITEM_VECTOR,
    MANIFEST,
    MEMORY,
    REGISTRY,
    UPDATE,
    Bundle,
    TensorSpec,
    new_version,
    read_manifest,
    write_manifest,
)
from store.graph_inputs import scores_of
from store.search import SEARCHES
from store.types import FIRST_KNOWN, Candidates

BUNDLES = Path("bundles")
GOLDEN_CANDIDATES = 64
GOLDEN_BEHAVIOURS = (200, 1500)  # a history of ordinary length
KEPT_VERSIONS = 5


def golden_request(dataset: Dataset, model: CTRModel, tables: dict[str, NDArray[Any]]) -> tuple[int, SearchedRequest]:
    """A real test request, filled up with popular items: its index and what the search over `tables` made of it."""
    requests = dataset.requests["test"]
    search = SEARCHES[model.search_name](model.search_spec, tables)
    lengths = np.array(
        [len(dataset.history(int(u), int(t))) for u, t in zip(requests.user[:500], requests.at[:500], strict=True)]
    )
    low, high = GOLDEN_BEHAVIOURS
    ordinary = np.flatnonzero((lengths >= low) & (lengths <= high))
    chosen = int(ordinary[0]) if len(ordinary) else int(np.argmax(lengths))
    popular = np.argsort(-np.bincount(dataset.row, minlength=dataset.registry.item_rows), kind="stable")
    popular = popular[popular >= FIRST_KNOWN]
    row = np.concatenate([requests.items(chosen)[0], popular]).astype(np.int32)[:GOLDEN_CANDIDATES]
    candidates = Candidates(row, dataset.registry.category[row])
    at = int(requests.at[chosen])
    behaviours = dataset.history(int(requests.user[chosen]), at)
    snapshot = own_clusters(search, behaviours, at, tables, dataset.schema)
    return chosen, search_request(search, model.config.recent, candidates, behaviours, at, requests.context[chosen], snapshot)


def torch_scores(run: Run, request: SearchedRequest, tables: dict[str, NDArray[Any]]) -> np.ndarray:
    """Probabilities float32 [C] of a searched request, by torch."""
    model = run.model
    arrays = {name: request.inputs[name] for name in model.batch_names} | {name: tables[name] for name in model.graph_tables}
    with torch.inference_mode():
        scored = model(torch.from_numpy(tables[ITEM_VECTOR]), {name: torch.from_numpy(array) for name, array in arrays.items()})
    return scores_of(scored.logit[0].numpy())


def make_bundle(dataset: Dataset, run: Run, bundles: Path = BUNDLES) -> Bundle:
    """Write a new version of a model and open it again, which verifies it. Old versions of the data set beyond five go.

    A folder without manifest is what an interruption leaves; it is never served.
    """
    model_folder = bundles / run.facts["model"]
    folder = model_folder / new_version(model_folder)
    folder.mkdir(parents=True)
    tables = precomputed(dataset, run)
    write_tables(tables, folder)
    dataset.registry.save(folder / REGISTRY)
    np.savez(folder / BUNDLED_WEIGHTS, **{name: value.numpy() for name, value in run.model.state_dict().items()})
    shutil.copyfile(dataset.folder / ITEMS_FILE, folder / ITEMS_FILE)
    chosen, request = golden_request(dataset, run.model, tables)
    inputs, outputs = export_graph(run.model, tables, request.inputs, folder / GRAPH)
    state = export_update(run.model, tables, folder / UPDATE) if isinstance(run.model, StatefulModel) else []
    if isinstance(run.model, StatefulModel) and (weights := run.model.weights_to_fold()):
        np.savez(folder / MEMORY, allow_pickle=False, **weights)
    write_device_graphs(run.model, tables, folder)
    golden, at, context = request.behaviours, int(dataset.requests["test"].at[chosen]), dataset.requests["test"].context[chosen]
    if isinstance(run.model, AttendingModel):
        write_list_graphs(run.model, tables, in_lists(request, at, context, run.model.config.recent), folder)
    if isinstance(run.model, KernelModel):
        write_kernel_graphs(run.model, tables, request.inputs, folder)
    np.savez(
        folder / GOLDEN, candidate_row=request.candidates.row, candidate_category=request.candidates.category,
        row=golden.row, category=golden.category, ts=golden.ts, cross=golden.cross, at=at,
        context=context, scores=torch_scores(run, request, tables),
    )  # fmt: skip
    axes = table_axes(run.model, tables)
    facts = run.facts
    write_manifest(
        folder,
        {
            "model": facts["model"],
            "version": folder.name,
            "data": dataset.schema.data,
            "registry_id": dataset.registry.registry_id,
            "item_rows": dataset.registry.item_rows,
            "schema": dataset.schema,
            "search": run.model.search_spec,
            "recent": run.model.config.recent,
            "inputs": inputs,
            "outputs": outputs,
            "state": state,
            "snapshot_id": snapshot_id(run.model),
            "fold_at_once": run.model.fold_at_once if isinstance(run.model, StatefulModel) else None,
            "tables": {
                name: TensorSpec(name=name, dtype=str(table.dtype), axes=list(axes[name])) for name, table in tables.items()
            },
            "explains": run.model.explains,
            "base_rate": facts["base_rate"],
            "calibrated": dataset.facts["calibrated"],
            "quality": facts.get("quality"),
            "training": {name: facts[name] for name in ("settings", "config", "fingerprint", "impressions", "seconds")},
            "made_with": {name: package_version(name) for name in ("torch", "onnx", "numpy")}
            | {"python": platform.python_version()},
        },
    )
    finished = [path.parent for path in sorted(model_folder.glob(f"*/{MANIFEST}"))]
    own = [old for old in finished if read_manifest(old).data == dataset.schema.data]
    for old in own[:-KEPT_VERSIONS]:
        shutil.rmtree(old)
    return Bundle(folder)
