"""New items between trainings: rows, vectors, signatures and projections for them, without training.

A new bundle version has the same graphs and weights and longer tables. A new item's id is the unknown one
until the next training; its category and inherent features are those it shares with known items, and
its vector, signature and projection follow from them. Rows only grow: what is known keeps its row, and all
bundles of a data set get the same ones.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from export.data.dataset import ITEMS_FILE, ItemFeatures
from export.data.folder import read_items
from export.data.prepare import category_name
from export.data.source import DataInvalid
from export.models import build
from export.models.contract import CTRModel
from export.precompute import item_tables, write_tables
from export.run import as_config, shape_of
from export.start import BUNDLED_WEIGHTS
from store.bundle import MANIFEST, REGISTRY, Bundle, new_version, read_manifest, versions, write_manifest
from store.ids import canonical_id
from store.registry import NO_CATEGORY, Registry, RegistryMismatch
from store.types import FIRST_KNOWN, UNKNOWN, Rows


@dataclass(frozen=True)
class Added:
    """What became of a table of items in one bundle."""

    bundle: Bundle
    new: int  # items that got a row
    known: int  # that had one
    unseen: dict[str, int]  # values of each feature that training has not seen, by name: they count as unknown


def newest_bundles(bundles: Path, data: str) -> dict[str, Path]:
    """The folder of the newest finished version of each model of a data set."""
    found = {}
    for model in sorted(path.name for path in bundles.glob("*") if path.is_dir()):
        for version in versions(bundles / model):
            if (bundles / model / version / MANIFEST).is_file() and read_manifest(bundles / model / version).data == data:
                found[model] = bundles / model / version
    return found


@dataclass(frozen=True)
class NewItems:
    """A table of items, numbered behind all that the bundles of a data set know: one line of rows for all of them."""

    registry: Registry  # with the new items
    features: ItemFeatures  # of the longest bundle
    table: pd.DataFrame  # the new items
    listed: list[str]  # ids of all items of the table

    @staticmethod
    def read(folder: Path, bundles: Sequence[Bundle]) -> "NewItems":
        """Read folder/items.parquet for these bundles of one data set.

        Raises:
            DataInvalid: the table breaks the form of items.parquet; the text names column and row.
            RegistryMismatch: two bundles mean different items by one row.
        """
        items = read_items(folder / "items.parquet")
        ids = [canonical_id(value.item() if isinstance(value, np.generic) else value) for value in items["item_id"]]
        longest = max(bundles, key=lambda bundle: bundle.manifest.item_rows)
        known = longest.registry
        for bundle in bundles:
            own = bundle.registry
            if known.ids[: len(own.ids)] != own.ids or (known.category[: own.item_rows] != own.category).any():
                raise RegistryMismatch(f"{bundle.folder} and {longest.folder} mean different items by one row: train one again")
        is_new = np.array([item_id not in known.row_of for item_id in ids])
        new = items[is_new].reset_index(drop=True)
        registry = extended(known, [item_id for item_id, fresh in zip(ids, is_new, strict=True) if fresh], new)
        return NewItems(registry, ItemFeatures.load(longest.folder / ITEMS_FILE), new, ids)


def add_items(items: NewItems, bundle: Bundle) -> Added | None:
    """Write a new version of a bundle that knows these items too; None: it has all their rows.

    A bundle older than the longest gets the rows between as well. Files that do not change are hard links,
    so a version costs its tables. The old version stays as it is.

    Raises:
        DataInvalid: a column of an inherent feature is missing, or the bundle's features are not those of the longest.
    """
    if items.registry.item_rows == bundle.manifest.item_rows:
        return None
    known = ItemFeatures.load(bundle.folder / ITEMS_FILE)
    longest = items.features
    if (known.names, known.sizes, known.vocabulary) != (longest.names, longest.sizes, longest.vocabulary):
        raise DataInvalid(f"{bundle.folder}: its item features are not those of the other bundles: train again")
    between = longest.value[len(known.value) :]
    features, unseen = _features(replace(known, value=np.concatenate([known.value, between])), items.table, items.registry)
    target = bundle.folder.parent / new_version(bundle.folder.parent)
    target.mkdir()
    try:
        _write(bundle, items.registry, features, target)
        had = sum(item_id in bundle.registry.row_of for item_id in items.listed)
        return Added(Bundle(target), len(items.listed) - had, had, unseen)
    except BaseException:
        shutil.rmtree(target)
        raise


def extended(registry: Registry, ids: list[str], items: pd.DataFrame) -> Registry:
    """The same line of rows with these new items behind it; new categories behind the known ones."""
    names = [NO_CATEGORY] * len(ids)
    if "category" in items:
        names = [category_name(name) for name in items["category"]]
    known = list(dict.fromkeys([*registry.category_names, *names]))
    row_of = {name: row for row, name in enumerate(known, FIRST_KNOWN)}
    category = np.concatenate([registry.category, np.array([row_of[name] for name in names], np.int32)])
    return Registry(registry.data, [*registry.ids, *ids], category, known, registry.registry_id)


def _features(known: ItemFeatures, items: pd.DataFrame, registry: Registry) -> tuple[ItemFeatures, dict[str, int]]:
    """Features of all rows, the new items' behind; and how many values of each training has not seen."""
    columns: list[Rows] = [np.full(len(items), UNKNOWN, np.int32)]  # the id itself
    unseen = {}
    for name, size, vocabulary in zip(known.names[1:], known.sizes[1:], known.vocabulary[1:], strict=True):
        if name == "category":
            value = registry.category[len(registry.category) - len(items) :]
            value = np.where(value < size, value, UNKNOWN)
        elif name in items:
            code = {text: value for value, text in enumerate(vocabulary, FIRST_KNOWN)}
            texts = items[name].astype("string")
            value = np.array([UNKNOWN if pd.isna(text) else code.get(str(text), UNKNOWN) for text in texts], np.int32)
        else:
            raise DataInvalid(f"items.parquet: column {name} is missing, an inherent feature of {registry.data}")
        unseen[name] = int((value == UNKNOWN).sum())
        columns.append(value.astype(np.int32))
    return replace(known, value=np.concatenate([known.value, np.stack(columns, axis=1)])), unseen


def _write(bundle: Bundle, registry: Registry, features: ItemFeatures, target: Path) -> None:
    manifest = bundle.manifest
    model = _model(bundle, features)
    tables = item_tables(features, model)
    for name, table in tables.items():  # what is known keeps its numbers to the last bit
        if name not in model.constants:
            table[: manifest.item_rows] = bundle.tables[name]
    changed = {REGISTRY, ITEMS_FILE, *(f"{name}.npy" for name in tables)}
    for file in manifest.files:
        if file not in changed:
            os.link(bundle.folder / file, target / file)
    write_tables(tables, target)
    registry.save(target / REGISTRY)
    features.save(target / ITEMS_FILE)
    fields = manifest.model_dump(by_alias=True)
    write_manifest(target, fields | {"version": target.name, "item_rows": registry.item_rows})


def _model(bundle: Bundle, features: ItemFeatures) -> CTRModel:
    """The model of a bundle, its weights loaded."""
    manifest = bundle.manifest
    model = build(manifest.model, shape_of(features, manifest.schema_), **as_config(manifest.training["config"]))
    with np.load(bundle.folder / BUNDLED_WEIGHTS, allow_pickle=False) as arrays:
        model.load_state_dict({name: torch.from_numpy(arrays[name]) for name in arrays.files})
    return model.eval()
