"""Your own data: a folder with interactions.parquet and, optionally, items.parquet.

Every column is checked before anything is made of it; the first fault found is one error that names
file, column and row (counted from 0).
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from export.data.source import RESERVED, DataInvalid, Source
from store.ids import InvalidId, canonical_id
from store.types import MAX_TS

LOGGED = "logged_"  # columns of the scorer's request log that are not for training
STEP_S = 3600  # a step of an order without a clock


def read(folder: Path, name: str) -> Source:
    """Read and check a folder; split by ts at the 80 % and 90 % quantile.

    Raises:
        DataInvalid: a file, column or row that breaks the form.
    """
    path = folder / "interactions.parquet"
    interactions = _table(path)
    from_steps = "ts" not in interactions and "step" in interactions
    if from_steps:
        interactions["ts"] = _integers(path, interactions, "step", 0, MAX_TS // STEP_S) * STEP_S
    interactions = interactions.drop(columns="step", errors="ignore")  # beside ts it says nothing
    interactions = interactions.drop(columns=[name for name in interactions if str(name).startswith(LOGGED)])
    for column in ("user_id", "item_id", "category", "ts"):
        if column not in interactions:
            raise DataInvalid(f"{path}: column {column} is missing" + (" (and step, which may stand for it)" * (column == "ts")))
    for column in ("user_id", "item_id"):
        _check_ids(path, interactions, column)
    interactions["ts"] = _integers(path, interactions, "ts", 0, MAX_TS)
    if "label" in interactions:
        interactions["label"] = _integers(path, interactions, "label", 0, 1)
    for column in interactions.columns:
        if column not in RESERVED and not column.startswith("context_"):
            interactions[column] = _numbers(path, interactions, column)
    items = None
    if (folder / "items.parquet").exists():
        items = read_items(folder / "items.parquet")
    ts = interactions["ts"].to_numpy()
    validation_ts, test_ts = (int(t) for t in np.quantile(ts, [0.8, 0.9], method="higher"))
    return Source(
        name=name, interactions=interactions, items=items, validation_ts=validation_ts, test_ts=test_ts,
        time_from_steps=from_steps, context=() if from_steps else ("hour", "weekday"), origin={"folder": folder.name},
    )  # fmt: skip


def read_items(path: Path) -> pd.DataFrame:
    """Read and check items.parquet: item_id, category and the items' inherent features.

    Raises:
        DataInvalid: a column or row that breaks the form.
    """
    items = _table(path)
    if "item_id" not in items:
        raise DataInvalid(f"{path}: column item_id is missing")
    _check_ids(path, items, "item_id")
    _refuse(path, "item_id", items["item_id"].duplicated().to_numpy(), "the item stands twice")
    return items


def _table(path: Path) -> pd.DataFrame:
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataInvalid(f"{path}: not readable as Parquet ({error})") from error
    if table.num_rows == 0:
        raise DataInvalid(f"{path}: no rows")
    for field in table.schema:
        if pa.types.is_nested(field.type):
            raise DataInvalid(f"{path}: column {field.name}: {field.type}, one value a row is needed")
    frame: pd.DataFrame = table.to_pandas()
    return frame


def _check_ids(path: Path, table: pd.DataFrame, column: str) -> None:
    values = table[column]
    if pd.api.types.is_bool_dtype(values) or (pd.api.types.is_float_dtype(values) and not values.isna().any()):
        raise DataInvalid(f"{path}: column {column}, row 0: {values.dtype}, an id is an integer or a text")
    _refuse(path, column, values.isna().to_numpy(), "null id")
    for value in values.unique():
        try:
            canonical_id(value.item() if isinstance(value, np.generic) else value)
        except InvalidId as error:
            _refuse(path, column, (values == value).to_numpy(), str(error))


def _integers(path: Path, table: pd.DataFrame, column: str, low: int, high: int) -> pd.Series:
    values = table[column]
    _refuse(path, column, values.isna().to_numpy(), "null")
    if not pd.api.types.is_integer_dtype(values):
        raise DataInvalid(f"{path}: column {column}, row 0: {values.dtype}, integers are needed")
    outside = ((values < low) | (values > high)).to_numpy()
    first = int(values.to_numpy()[np.argmax(outside)])
    _refuse(path, column, outside, f"{first}, allowed {low}..{high}" + " (milliseconds?)" * (column == "ts" and first > high))
    return values.astype("int64")


def _numbers(path: Path, table: pd.DataFrame, column: str) -> pd.Series:
    values = table[column]
    if not pd.api.types.is_numeric_dtype(values):
        raise DataInvalid(f"{path}: column {column}, row 0: {values.dtype}; a further column is a cross feature, a number")
    numbers = values.astype("float64")
    _refuse(path, column, np.isinf(numbers.to_numpy()), "infinity")
    return numbers


def _refuse(path: Path, column: str, wrong: np.ndarray, what: str) -> None:
    if wrong.any():
        raise DataInvalid(f"{path}: column {column}, row {int(np.argmax(wrong))}: {what}")
