"""A bundle: one self-contained folder that verifies itself.

    bundles/<model>/<version>/        version = UTC time of making, 20260131T120000Z
        score.onnx                    candidates x behaviours (or a state) -> logit, weight
        update.onnx                   state x behaviours -> state, for models that score from a state
        memory.npz                    weights of `store.memory`, with which a processor folds without update.onnx: optional
        before_lists.onnx             candidates, behaviours -> queries, vectors: with the next one in place of score.onnx where
        after_lists.onnx              candidates, what was pooled -> logit         a processor attends in lists; both or neither
        before_pairs.onnx             candidates, behaviours -> operands: with the next one in place of score.onnx where on a
        after_pairs.onnx              candidates, answers -> logit, weight      processor a kernel answers (`between.py`)
        before_target.onnx, after_target.onnx                                   the same with another kernel
        after_sums.onnx                                                         the same with one that reads tables and a state
        search_score.onnx             candidates x the life -> what was found, logit, weight: optional, for GPUs
        ..._float16.onnx              score and search_score in float16: optional, for GPUs
        item_vector.npy ...           item tables: inputs of the graph or of the search
        registry.npz                  the item registry the tables were made for
        golden.npz                    a real request and its scores
        weights.npz items.npz         for training to continue from; the service reads neither
        manifest.json                 written last: its presence says that the rest is whole

Nothing here is pickled, and no path in a manifest can leave the folder.
"""

import hashlib
import json
import os
import re
from collections.abc import Collection
from copy import copy
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from store import gaps
from store.arrays import BadArrays, map_array, read_arrays
from store.between import BETWEEN, SUMS, Between
from store.bucket_sums import add_to_sums
from store.fold import FoldKernel, initial_state
from store.memory import WEIGHTS, MemoryWriter
from store.registry import Registry
from store.schema import Schema
from store.search import SEARCHES, Search, SearchSpec
from store.snapshot import SnapshotCodec
from store.types import Behaviours, Candidates, Floats, Rows

FORMAT = 2
MANIFEST = "manifest.json"
GRAPH = "score.onnx"
UPDATE = "update.onnx"
MEMORY = "memory.npz"
BEFORE, AFTER = "before_lists.onnx", "after_lists.onnx"
GOLDEN = "golden.npz"
REGISTRY = "registry.npz"
ITEM_VECTOR = "item_vector"

Precision = Literal["float32", "float16"]

_GOLDEN_ARRAYS = ("candidate_row", "candidate_category", "row", "category", "ts", "cross", "at", "context", "scores")
VERSION_PATTERN = re.compile(r"\d{8}T\d{6}Z")
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+\.(onnx|npy|npz)$")]


class BundleInvalid(ValueError):
    """A bundle that must not be served. The text names the file and what is wrong with it."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class TensorSpec(_Strict):
    """One input or output of a graph."""

    name: str
    dtype: str
    axes: list[str]


class Tolerance(_Strict):
    """Largest difference of a replayed golden score, per way of computing it."""

    cpu: float = 1e-5
    cuda: float = 1e-4
    float16: float = 5e-3


class Quality(_Strict):
    """Offline figures on the test impressions, and what they were measured on."""

    auc: float | None  # None: the impressions have one label only
    gauc: float | None
    log_loss: float
    impressions: int
    users: int
    sample: str


class Manifest(_Strict):
    """What a bundle says of itself."""

    format: Literal[2] = 2
    model: str
    version: str
    data: str
    registry_id: str
    item_rows: int
    schema_: Schema = Field(alias="schema")
    search: SearchSpec
    recent: int  # R, newest behaviours of the short branch, 0 = none
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    state: list[TensorSpec] = []  # what the graph reads of a user in place of behaviours
    snapshot_id: str | None = Field(None, pattern="^[0-9a-f]{16}$")  # of snapshots made with these parameters
    fold_at_once: int | None = Field(None, ge=1)  # behaviours that one run of the update graph folds; None = any number
    tables: dict[str, TensorSpec]
    explains: bool  # the graph gives a weight per retrieved behaviour
    base_rate: float = Field(ge=0, le=1, allow_inf_nan=False)
    calibrated: bool
    tolerance: Tolerance = Tolerance()
    quality: Quality | None = None
    training: dict[str, Any]
    made_with: dict[str, str]
    files: dict[FileName, str]  # sha256 of each

    @model_validator(mode="after")
    def _one_data_set(self) -> Self:
        if self.schema_.data != self.data:
            raise ValueError(f"data {self.data}, the schema is of {self.schema_.data}")
        return self


class Golden(_Strict):
    """A real request, already read from the store, and the scores training gave it."""

    model_config = ConfigDict(arbitrary_types_allowed=True, frozen=True)
    candidates: Candidates
    behaviours: Behaviours
    at: int
    context: Rows
    scores: Floats


class Bundle:
    """An opened bundle. Every file has been checked against the manifest's sha256; tables are mapped."""

    def __init__(self, folder: Path) -> None:
        """Open and verify.

        Raises:
            BundleInvalid: a file is missing, truncated, altered, of another format, or contradicts the manifest.
        """
        self.folder = folder
        self.manifest = read_manifest(folder)
        for name, digest in self.manifest.files.items():
            path = folder / name
            if not path.is_file():
                raise BundleInvalid(f"{path}: missing")
            try:
                found = sha256(path)
            except OSError as error:
                raise BundleInvalid(f"{path}: {error}") from error
            if found != digest:
                raise BundleInvalid(f"{path}: sha256 {found[:12]}..., the manifest says {digest[:12]}...")
        needed = {GRAPH, GOLDEN, REGISTRY, *(f"{name}.npy" for name in self.manifest.tables)}
        needed |= {UPDATE} if self.manifest.state else set()
        needed |= {BEFORE, AFTER} if self.attends_in_lists else set()
        needed |= self.between.files if self.between else set()
        if absent := sorted(needed - set(self.manifest.files)):
            raise BundleInvalid(f"{folder / MANIFEST}: no sha256 of {', '.join(absent)}")
        self.tables = {name: self._table(name, spec) for name, spec in self.manifest.tables.items()}
        self.registry = self._registry()
        search = SEARCHES[self.manifest.search.name]
        initial = {f"initial_{spec.name}" for spec in self.manifest.state}
        if absent := sorted({ITEM_VECTOR, *search.item_tables, *search.constants, *initial} - set(self.tables)):
            raise BundleInvalid(f"{folder / MANIFEST}: tables {', '.join(absent)} are missing")
        self.search: Search = search(self.manifest.search, self.tables)
        try:
            self.search.check([gaps.BUCKETS, *(feature.buckets for feature in self.manifest.schema_.cross_features)])
        except ValueError as error:
            raise BundleInvalid(f"{folder}: {error}") from error

    @property
    def name(self) -> str:
        """`model:version`, as a request may ask for it; and how many rows it has where they are not its own."""
        made_with = len(self.tables[ITEM_VECTOR])
        rows = "" if self.manifest.item_rows == made_with else f", {self.manifest.item_rows} rows"
        return f"{self.manifest.model}:{self.manifest.version}{rows}"

    @property
    def attends_in_lists(self) -> bool:
        """Whether it has graphs around an attention in lists."""
        return not {BEFORE, AFTER}.isdisjoint(self.manifest.files)

    @property
    def between(self) -> Between | None:
        """The kernel that it has graphs around, if it has such."""
        return next((one for one in BETWEEN if not one.files.isdisjoint(self.manifest.files)), None)

    @cached_property
    def request_inputs(self) -> frozenset[str]:
        """Names of what its graph reads beside tables."""
        return frozenset(spec.name for spec in self.manifest.inputs) - set(self.tables)

    @cached_property
    def snapshots(self) -> SnapshotCodec | None:
        """Reads this model's snapshots; None: it has none."""
        manifest = self.manifest
        if manifest.snapshot_id is None:
            return None
        empty = initial_state(self.tables, [spec.name for spec in manifest.state])
        return SnapshotCodec(manifest.snapshot_id, empty, len(manifest.schema_.cross_features))

    @cached_property
    def fold_kernel(self) -> FoldKernel | None:
        """Folds as the update graph does; None: only that does.

        Raises:
            BundleInvalid: its weights cannot be read, or do not fit.
        """
        if self.between is SUMS:
            return lambda feed, tables: add_to_sums(feed, tables["bucket"], tables[ITEM_VECTOR])
        if MEMORY not in self.manifest.files:
            return None
        try:
            writer = MemoryWriter(read_arrays(self.folder / MEMORY, WEIGHTS))
        except ValueError as error:
            raise BundleInvalid(f"{self.folder / MEMORY}: {error}") from error
        return lambda feed, tables: writer.run(feed, tables[ITEM_VECTOR])

    @cached_property
    def golden(self) -> Golden:
        """The golden request."""
        return read_golden(self.folder / GOLDEN, self.manifest)

    def with_items(self, registry: Registry) -> "Bundle":
        """The same bundle with another snapshot of its line of item rows, for tables that are read from elsewhere."""
        other = copy(self)
        other.registry = registry
        other.manifest = self.manifest.model_copy(update={"item_rows": registry.item_rows})
        return other

    def _table(self, name: str, spec: TensorSpec) -> NDArray[Any]:
        path = self.folder / f"{name}.npy"
        try:
            table = map_array(path)
        except BadArrays as error:
            raise BundleInvalid(str(error)) from error
        if table.dtype != spec.dtype or table.ndim != len(spec.axes):
            raise BundleInvalid(f"{path}: {table.dtype} with {table.ndim} axes, the manifest says {spec.dtype} {spec.axes}")
        if spec.axes[:1] == ["N"] and len(table) != self.manifest.item_rows:
            raise BundleInvalid(f"{path}: {len(table)} rows, the manifest says item_rows {self.manifest.item_rows}")
        if table.dtype.kind == "f" and not np.isfinite(table).all():
            raise BundleInvalid(f"{path}: holds NaN or infinity")
        return table

    def _registry(self) -> Registry:
        try:
            registry = Registry.load(self.folder / REGISTRY)
        except BadArrays as error:
            raise BundleInvalid(str(error)) from error
        manifest = self.manifest
        if registry.data != manifest.data:
            raise BundleInvalid(f"{self.folder / REGISTRY}: of data set {registry.data}, the manifest says {manifest.data}")
        if (registry.registry_id, registry.item_rows) != (manifest.registry_id, manifest.item_rows):
            raise BundleInvalid(
                f"{self.folder / REGISTRY}: registry {registry.registry_id} with {registry.item_rows} rows, "
                f"the manifest says {manifest.registry_id} with {manifest.item_rows}"
            )
        return registry


def graph_file(precision: Precision, searches: bool = False) -> str:
    """Name of a scoring graph in a bundle; all but `GRAPH` itself are optional."""
    return ("search_" if searches else "") + GRAPH.replace(".", "." if precision == "float32" else f"_{precision}.")


def split_inputs(names: Collection[str]) -> tuple[list[str], list[str]]:
    """Of the inputs of a whole graph those that `BEFORE` reads, and those that `AFTER` does."""
    retrieved = {name for name in names if name.startswith("retrieved_")}
    before = [name for name in names if name in retrieved | {ITEM_VECTOR, "candidate_row"} and name != "retrieved_mask"]
    return before, [*(name for name in names if name not in retrieved | {"candidate_place"}), "pooled", "pooled_item"]


def inputs_around(between: Between, names: Collection[str]) -> tuple[list[str], list[str]]:
    """Of the inputs of a whole graph those that the graph before a kernel reads, and those that the graph after it does."""
    both = (ITEM_VECTOR, "candidate_row")
    before = [name for name in names if name.startswith("retrieved_") or name in both] if between.before else []
    return before, [*(name for name in names if name in both or name not in between.operands), *between.answers]


def read_golden(path: Path, manifest: Manifest, content: bytes | None = None) -> Golden:
    """A golden request; `content`: the file's bytes, where they come from elsewhere.

    Raises:
        BundleInvalid: it cannot be read, or does not fit the manifest.
    """
    try:
        a = read_arrays(path, _GOLDEN_ARRAYS, content)
        rows = manifest.item_rows
        if not 0 < len(a["candidate_row"]) == len(a["scores"]):
            raise BadArrays(f"{path}: {len(a['candidate_row'])} candidates, {len(a['scores'])} scores")
        if not all(((a[name] >= 0) & (a[name] < rows)).all() for name in ("candidate_row", "row")):
            raise BadArrays(f"{path}: a row beyond item_rows {rows}")
        lengths = {len(a[name]) for name in ("row", "category", "ts", "cross")}
        features = (len(manifest.schema_.cross_features), len(manifest.schema_.context))
        if len(lengths) != 1 or (*a["cross"].shape[1:], *a["context"].shape) != features:
            raise BadArrays(f"{path}: behaviours or context do not fit the schema")
        return Golden(
            candidates=Candidates(a["candidate_row"], a["candidate_category"]),
            behaviours=Behaviours(a["row"], a["category"], a["ts"], a["cross"]),
            at=int(a["at"]), context=a["context"], scores=a["scores"],
        )  # fmt: skip
    except (BadArrays, TypeError) as error:
        raise BundleInvalid(str(error)) from error


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder, checked field by field.

    Raises:
        BundleInvalid: no manifest, no JSON, another format version, a wrong or missing field.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise BundleInvalid(f"{path}: missing, so the bundle was never finished") from None
    except (OSError, ValueError) as error:
        raise BundleInvalid(f"{path}: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else None
        raise BundleInvalid(f"{path}: bundle format {found}, this version reads {FORMAT}")
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise BundleInvalid(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    if (manifest.model, manifest.version) != (folder.parent.name, folder.name):
        raise BundleInvalid(f"{path}: says {manifest.model}/{manifest.version}, the folder is {folder.parent.name}/{folder.name}")
    return manifest


def write_manifest(folder: Path, fields: dict[str, Any]) -> Manifest:
    """Write manifest.json, the last file of a bundle, with the sha256 of all others."""
    files = {path.name: sha256(path) for path in sorted(folder.iterdir()) if path.name != MANIFEST}
    manifest = Manifest.model_validate({**fields, "files": files})
    unfinished = folder / f".{MANIFEST}"
    unfinished.write_text(manifest.model_dump_json(by_alias=True, indent=1))
    os.replace(unfinished, folder / MANIFEST)
    return manifest


def new_version(model_folder: Path) -> str:
    """The name of a new version: UTC now, a second later than any version that exists."""
    version = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return max([version, *(_next_second(old) for old in versions(model_folder))])


def _next_second(version: str) -> str:
    moment = datetime.strptime(version, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return datetime.fromtimestamp(moment.timestamp() + 1, UTC).strftime("%Y%m%dT%H%M%SZ")


def versions(model_folder: Path) -> list[str]:
    """Version names in a model's folder, oldest first, finished or not."""
    if not model_folder.is_dir():
        return []
    return sorted(path.name for path in model_folder.iterdir() if VERSION_PATTERN.fullmatch(path.name))


def sha256(path: Path) -> str:
    """Digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
