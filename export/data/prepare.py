"""From a source to a prepared folder: rows for items, buckets for numbers, requests with labels.

The folder is written beside its place and moved there when whole. A folder whose fingerprint
matches the source is used as it is.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from export.data import assist2017, complete_journey, folder
from export.data.dataset import FACTS_FILE, ITEMS_FILE, Dataset, ItemFeatures
from export.data.requests import Requests, from_impressions, with_drawn_negatives
from export.data.source import RESERVED, DataInvalid, Source
from store.ids import canonical_id
from store.keys import check_data_name
from store.load import BEHAVIOURS_FILE, REGISTRY_FILE, SCHEMA_FILE
from store.registry import NO_CATEGORY, Registry
from store.schema import CLOCK_CONTEXT, ContextFeature, CrossFeature, Schema, category_text
from store.types import FIRST_KNOWN, PADDING, UNKNOWN, Rows

FORMAT = 2  # of the prepared folder
DATA_FOLDER = Path("runs/data")
READERS = {complete_journey.NAME: complete_journey.read, assist2017.NAME: assist2017.read}

SEED = 20171109
BUCKETS = 16  # of a cross feature, at quantiles of the training rows
MAX_CONTEXT_VALUES = 1000


def prepare(data: str, name: str | None = None, into: Path = DATA_FOLDER) -> Dataset:
    """Read a registered data set or a folder in the contracted form, and open it prepared.

    Args:
        data: a registered name, or a folder with interactions.parquet.
        name: what to call a folder's data set; its own name by default.

    Raises:
        DataInvalid: unknown name, or data that breaks the form.
    """
    if data in READERS:
        source = READERS[data]()
    elif Path(data).is_dir():
        try:
            source = folder.read(Path(data), check_data_name(name or Path(data).resolve().name))
        except ValueError as error:
            raise DataInvalid(str(error)) from error
    else:
        raise DataInvalid(f"data {data!r}: neither a folder nor one of {', '.join(READERS)}")
    target = into / source.name
    fingerprint = _fingerprint(source)
    try:
        if json.loads((target / FACTS_FILE).read_text())["fingerprint"] == fingerprint:
            return Dataset.open(target)
    except (OSError, ValueError, KeyError):
        pass  # not prepared yet, or by another version
    unfinished = into / f".{source.name}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    _write(source, unfinished, fingerprint)
    shutil.rmtree(target, ignore_errors=True)
    os.replace(unfinished, target)
    return Dataset.open(target)


def _fingerprint(source: Source) -> str:
    digest = hashlib.sha256(f"{FORMAT} {SEED} {BUCKETS} {source.name} {source.validation_ts} {source.test_ts}".encode())
    for table in (source.interactions, source.items, source.test):
        if table is not None:
            digest.update(",".join(table.columns).encode())
            digest.update(pd.util.hash_pandas_object(table, index=False).to_numpy().tobytes())
    return digest.hexdigest()[:16]


def _write(source: Source, target: Path, fingerprint: str) -> None:
    rows = source.interactions
    user_ids, user = _codes(rows["user_id"])
    by_id = np.argsort(np.array(user_ids, dtype=object), kind="stable")  # the loader needs them sorted
    user_ids, user = [user_ids[code] for code in by_id], np.argsort(by_id)[user]
    registry, row = _registry(source)
    ts = rows["ts"].to_numpy().astype(np.int64)
    training = ts < source.train_end_ts
    schema = _schema(source, training)
    cross = {feature.name: feature.encode(rows[feature.name].to_numpy(np.float64)) for feature in schema.cross_features}

    labelled = source.labelled
    is_behaviour = np.ones(len(rows), bool)
    if labelled and not source.keeps_negative_behaviours:
        is_behaviour = rows["label"].to_numpy() == 1
    popularity = np.bincount(row[training & is_behaviour], minlength=registry.item_rows)
    context = _context(schema, rows, ts)

    order = np.flatnonzero(is_behaviour)
    order = order[np.lexsort((row[order], ts[order], user[order]))]
    key = np.stack([user[order], ts[order], row[order]])
    first = np.ones(len(order), bool)
    first[1:] = (key[:, 1:] != key[:, :-1]).any(axis=0)  # rows equal in user, item and ts are one behaviour
    order = order[first]
    users = pa.DictionaryArray.from_arrays(pa.array(user[order].astype(np.int32)), pa.array(user_ids)).cast(pa.string())
    columns = {"user_id": users, "row": row[order], "ts": ts[order], **{name: values[order] for name, values in cross.items()}}
    pq.write_table(pa.table(columns), target / BEHAVIOURS_FILE, row_group_size=200_000)
    registry.save(target / REGISTRY_FILE)
    (target / SCHEMA_FILE).write_text(schema.model_dump_json(indent=1))
    _item_features(source, registry, popularity).save(target / ITEMS_FILE)

    # requests refer to users by their order in the behaviours file, where each user appears once
    place = np.full(len(user_ids), -1)
    appearing = user[order][np.flatnonzero(np.diff(user[order], prepend=-1))]
    place[appearing] = np.arange(len(appearing))
    counts = {}
    for split, low, high in (
        ("train", 0, source.train_end_ts),
        ("validation", source.validation_ts, source.test_ts),
        ("test", source.test_ts, np.iinfo(np.int64).max),
    ):
        if split == "test" and source.test is not None:
            requests = _fixed_test(source.test, user_ids, registry, schema)
        else:
            part = np.flatnonzero((ts >= low) & (ts < high) & (is_behaviour | labelled))
            requests = _requests(source, part, user, ts, row, context, popularity)
        with_history = place[requests.user] >= 0  # a user without one behaviour has no place in the file
        requests = requests.select(np.flatnonzero(with_history))
        requests = Requests(place[requests.user], requests.at, requests.context, requests.start, requests.row, requests.label)
        requests.save(target / f"{split}.npz")
        counts[split] = {"requests": len(requests), "impressions": len(requests.row)}
    facts = {
        "name": source.name, "fingerprint": fingerprint, "calibrated": labelled, "origin": source.origin,
        "train_end_ts": source.train_end_ts, "validation_ts": source.validation_ts, "test_ts": source.test_ts,
        "users": len(appearing), "items": len(registry.ids), "behaviours": len(order), **counts,
    }  # fmt: skip
    (target / FACTS_FILE).write_text(json.dumps(facts, indent=1))


def _codes(values: pd.Series) -> tuple[list[str], NDArray[np.int64]]:
    """Canonical ids and the index of each value's: 7 and "7" are one."""
    raw_codes, raw = pd.factorize(values)
    texts = [canonical_id(value.item() if isinstance(value, np.generic) else value) for value in raw]
    codes, ids = pd.factorize(np.array(texts, dtype=object))
    return list(ids), codes[raw_codes]


def _registry(source: Source) -> tuple[Registry, Rows]:
    """Rows in the order of first appearance, then items that never appear; and the row of each interaction."""
    rows = source.interactions
    item_ids, item = _codes(rows["item_id"])
    oldest_first = np.argsort(rows["ts"].to_numpy(), kind="stable")
    _, first = np.unique(item[oldest_first], return_index=True)
    appearance = np.argsort(first, kind="stable")  # items by first appearance
    ids = [item_ids[i] for i in appearance]
    category: dict[str, str] = {}
    if "category" in rows:  # rows that disagree: the newest row's
        newest = pd.Series(rows["category"].to_numpy()[oldest_first], index=item[oldest_first])
        for code, name in newest[~newest.index.duplicated(keep="last")].items():
            category[item_ids[int(str(code))]] = category_name(name)
    if source.items is not None:
        extra_ids, extra = _codes(source.items["item_id"])
        if "category" in source.items:
            for code, name in zip(extra, source.items["category"], strict=True):
                category[extra_ids[code]] = category_name(name)
        known = set(ids)
        ids += [item_id for item_id in extra_ids if item_id not in known]
    registry = Registry.build(source.name, ids, [category.get(item_id, NO_CATEGORY) for item_id in ids])
    row_of_code = np.empty(len(item_ids), np.int32)
    row_of_code[appearance] = np.arange(len(item_ids)) + FIRST_KNOWN
    return registry, row_of_code[item]


def category_name(value: object) -> str:
    """The name of an item's category; null = `none`."""
    return NO_CATEGORY if pd.isna(value) else category_text(value)  # type: ignore[call-overload]


def _schema(source: Source, training: NDArray[np.bool_]) -> Schema:
    cross: list[CrossFeature] = []
    context = [ContextFeature(name=name, values=[str(i) for i in range(CLOCK_CONTEXT[name])]) for name in source.context]
    for column in source.interactions.columns:
        values = source.interactions[column]
        if column.startswith("context_"):
            seen = sorted({category_text(value) for value in values[training].dropna().unique()})
            if len(seen) > MAX_CONTEXT_VALUES:
                raise DataInvalid(f"column {column}: {len(seen)} values, at most {MAX_CONTEXT_VALUES} make sense as context")
            context = [feature for feature in context if feature.name != column.removeprefix("context_")]
            context.append(ContextFeature(name=column.removeprefix("context_"), values=seen))
        elif column not in RESERVED:
            numbers = values[training].dropna().to_numpy(np.float64)
            edges = np.quantile(numbers, np.arange(1, BUCKETS) / BUCKETS) if len(numbers) else np.zeros(0)
            cross.append(CrossFeature(name=column, edges=np.unique(edges).tolist()))
    return Schema(
        data=source.name, cross_features=cross, context=context,
        time_from_steps=source.time_from_steps, negative_behaviours=source.keeps_negative_behaviours,
    )  # fmt: skip


def _context(schema: Schema, rows: pd.DataFrame, ts: NDArray[np.int64]) -> Rows:
    """Context int32 [rows, F], as `Schema.encode_context` makes it for one request."""
    out = np.zeros((len(ts), len(schema.context)), np.int32)
    clock = {"hour": ts // 3600 % 24, "weekday": (ts // 86400 + 3) % 7}  # day 0 was a Thursday
    for f, feature in enumerate(schema.context):
        column = f"context_{feature.name}"
        if column in rows:
            codes, values = pd.factorize(rows[column])
            encoded = np.array([*(feature.encode(value) for value in values), PADDING], np.int32)
            out[:, f] = encoded[codes]  # a missing value has code -1: the last entry
        else:
            out[:, f] = clock[feature.name] + 2
    return out


def _item_features(source: Source, registry: Registry, popularity: NDArray[np.int64]) -> ItemFeatures:
    """Feature ids int32 [N, F]: the item (seen at least twice), its category, its inherent features."""
    often = popularity >= 2
    item = np.where(often, np.cumsum(often) + 1, UNKNOWN)
    names, values = ["item", "category"], [item, registry.category]
    vocabulary: list[list[str]] = [[], registry.category_names]
    for column in [] if source.items is None else source.items.columns:
        if column in ("item_id", "category"):
            continue
        codes, texts = pd.factorize(source.items[column].astype("string"), sort=True)  # type: ignore[index]
        vocabulary.append([str(text) for text in texts])
        feature = np.full(registry.item_rows, UNKNOWN)
        ids = [canonical_id(v.item() if isinstance(v, np.generic) else v) for v in source.items["item_id"]]  # type: ignore[index]
        rows = np.array([registry.row_of[item_id] for item_id in ids])
        feature[rows] = np.where(codes < 0, UNKNOWN, codes + 2)
        names.append(str(column))
        values.append(feature)
    value = np.stack(values, axis=1).astype(np.int32)
    value[PADDING], value[UNKNOWN] = PADDING, UNKNOWN
    return ItemFeatures(names, value, [int(column.max()) + 1 if len(column) else 2 for column in value.T], vocabulary)


def _requests(
    source: Source, part: NDArray[np.intp], user: NDArray[np.int64], ts: NDArray[np.int64], row: Rows, context: Rows,
    popularity: NDArray[np.int64],
) -> Requests:  # fmt: skip
    if source.labelled:
        label = source.interactions["label"].to_numpy(np.float32)
        return from_impressions(user[part], ts[part], row[part], label[part], context[part])
    if not len(part) or not popularity.any():
        raise DataInvalid(f"{source.name}: too few rows to split by time into training, validation and test")
    return with_drawn_negatives(user[part], ts[part], row[part], context[part], popularity, SEED)


def _fixed_test(test: pd.DataFrame, user_ids: list[str], registry: Registry, schema: Schema) -> Requests:
    codes = {user_id: code for code, user_id in enumerate(user_ids)}
    user = np.array([codes[user_id] for user_id in test["user_id"].astype(str)], np.int64)
    row = np.array([registry.row_of.get(item_id, UNKNOWN) for item_id in test["item_id"].astype(str)], np.int32)
    ts = test["ts"].to_numpy(np.int64)
    return from_impressions(user, ts, row, test["label"].to_numpy(np.float32), _context(schema, test, ts))
