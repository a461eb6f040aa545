"""From a finished run to a bundle: graph, tables, registry, golden request, manifest last."""

import platform
import shutil
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from export.batches import SearchedRequest, search_request
from export.data.dataset import Dataset
from export.graph import export_graph
from export.models.contract import CTRModel
from export.precompute import item_tables, write_tables
from export.train import Run
from store.bundle import (
    GOLDEN,
    GRAPH,
    ITEM_VECTOR,
    MANIFEST,
    REGISTRY,
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
TABLES = "tables"  # folder of a run
GOLDEN_CANDIDATES = 64
GOLDEN_BEHAVIOURS = (200, 1500)  # a history of ordinary length
KEPT_VERSIONS = 5


def precompute(dataset: Dataset, run: Run) -> Path:
    """Write the item tables of a run to <run>/tables and say where they are."""
    folder = run.folder / TABLES
    write_tables(item_tables(dataset, run.model), folder)
    return folder


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
    return chosen, search_request(search, model.config.recent, candidates, behaviours, at, requests.context[chosen])


def torch_scores(run: Run, request: SearchedRequest, item_vector: torch.Tensor) -> np.ndarray:
    """Probabilities float32 [C] of a searched request, by torch."""
    inputs = {name: torch.from_numpy(request.inputs[name]) for name in run.model.input_names}
    with torch.inference_mode():
        logit, _ = run.model(item_vector, inputs)
    return scores_of(logit[0].numpy(), request.retrieved.place, len(request.candidates.row))


def make_bundle(dataset: Dataset, run: Run, bundles: Path = BUNDLES) -> Bundle:
    """Write a new version of a model and open it again, which verifies it. Old versions of the data set beyond five go.

    A folder without manifest is what an interruption leaves; it is never served.
    """
    model_folder = bundles / run.facts["model"]
    folder = model_folder / new_version(model_folder)
    folder.mkdir(parents=True)
    tables = item_tables(dataset, run.model)
    write_tables(tables, folder)
    dataset.registry.save(folder / REGISTRY)
    chosen, request = golden_request(dataset, run.model, tables)
    item_vector = torch.from_numpy(tables[ITEM_VECTOR])
    inputs, outputs = export_graph(run.model, item_vector, request.inputs, folder / GRAPH)
    golden, at = request.behaviours, int(dataset.requests["test"].at[chosen])
    np.savez(
        folder / GOLDEN, candidate_row=request.candidates.row, candidate_category=request.candidates.category,
        row=golden.row, category=golden.category, ts=golden.ts, cross=golden.cross, at=at,
        context=dataset.requests["test"].context[chosen], scores=torch_scores(run, request, item_vector),
    )  # fmt: skip
    search = SEARCHES[run.model.search_name]
    axes = {name: ["N", *"HD"][: table.ndim] for name, table in tables.items() if name not in search.constants}
    axes |= {name: ["1+J", "bucket", "H"] for name in search.constants}
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
            "tables": {name: TensorSpec(name=name, dtype=str(table.dtype), axes=axes[name]) for name, table in tables.items()},
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
