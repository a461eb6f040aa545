"""Behaviours in Parquet, found and checked before any of them is loaded: whatever is wrong is named by file, column and row.

Columns: user_id (text or integer), row, ts (integers), and one uint8 column per cross feature. The engine reads, on all
cores or on its cluster; it would cast a column of another type in silence, so types are looked at file by file.
"""

import glob
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from store.ids import MAX_ID_BYTES
from store.types import MAX_TS, UNKNOWN

FILES_AT_ONCE = 16  # whose types are read


class BadBehaviours(ValueError):
    """Behaviours in Parquet that cannot be loaded. Nothing was written."""


@dataclass(frozen=True)
class Columns:
    """The columns of a data set, and what may stand in them."""

    item_rows: int  # N of the registry
    buckets: dict[str, int]  # cross feature -> how many values it can have

    @property
    def names(self) -> list[str]:
        """In the order that a worker reads them."""
        return ["user_id", "row", "ts", *self.buckets]

    @property
    def limits(self) -> dict[str, tuple[int, int]]:
        """Smallest and largest value of the columns of numbers."""
        return {"row": (UNKNOWN, self.item_rows - 1), "ts": (0, MAX_TS)} | {
            name: (0, count - 1) for name, count in self.buckets.items()
        }


def checked_files(daft: Any, behaviours: str, columns: Columns) -> Any:
    """The engine's frame over all files of a path, in the columns' order and types.

    Args:
        daft: the engine.
        behaviours: a file, a folder or a glob of files; local, or a URL of an object store.

    Cost: one stream over the files.

    Raises:
        BadBehaviours: no file, an unreadable one, a column that is missing or of another type, a value out of bounds.
    """
    engine_faults = (OSError, daft.exceptions.DaftCoreException)
    try:
        files = _files(daft, behaviours)
        with ThreadPoolExecutor(FILES_AT_ONCE) as threads:
            for fault in threads.map(lambda file: _type_fault(daft, file, columns), files):
                if fault:
                    raise BadBehaviours(fault)
        frame = _frame(daft, files, columns)
        wrong = ~_all(list(_right(daft, columns).values()))
        found = frame.where(wrong).select("file").limit(1).to_pydict()["file"]
        if found:
            raise BadBehaviours(_value_fault(daft, found[0], columns))
        return frame.select(*columns.names)
    except engine_faults as error:
        raise BadBehaviours(f"{behaviours}: {str(error).strip().splitlines()[0]}") from error


def _files(daft: Any, behaviours: str) -> list[str]:
    """Every file, as a pattern that matches it alone. What a folder holds beside Parquet is left alone."""
    if "://" in behaviours:
        pattern = behaviours if behaviours.endswith(".parquet") else behaviours.rstrip("/") + "/**/*.parquet"
        files: list[str] = daft.from_glob_path(pattern).to_pydict()["path"]
    else:
        path = Path(behaviours)
        local = [path] if path.is_file() else sorted(path.rglob("*.parquet")) if path.is_dir() else []
        files = [str(file) for file in local] or sorted(glob.glob(behaviours, recursive=True))
    if not files:
        raise BadBehaviours(f"{behaviours}: no Parquet file is there")
    return [glob.escape(file) for file in files]


def _frame(daft: Any, files: Sequence[str], columns: Columns) -> Any:
    """All columns in one type each, and the column `file`."""
    types = daft.DataType
    hint = {"user_id": types.string(), "row": types.int64(), "ts": types.int64()}
    hint |= {name: types.uint8() for name in columns.buckets}
    return daft.read_parquet(list(files), schema=hint, file_path_column="file")


def _type_fault(daft: Any, file: str, columns: Columns) -> str | None:
    """What is wrong with the columns of a file; one of nothing but nulls has no type."""
    found = {field.name: field.dtype for field in daft.read_parquet(file).schema()}
    for name in columns.names:
        if name not in found:
            return f"{_plain(file)}: column {name} is missing"
        kind = found[name]
        if kind.is_null():
            continue
        if name == "user_id" and not (kind.is_string() or kind.is_integer()):
            return f"{_plain(file)}: column {name} is {kind}, a text or an integer is needed"
        if name in ("row", "ts") and not kind.is_integer():
            return f"{_plain(file)}: column {name} is {kind}, an integer is needed"
        if name in columns.buckets and kind != daft.DataType.uint8():
            return f"{_plain(file)}: column {name} is {kind}, UInt8 is needed"
    return None


def _right(daft: Any, columns: Columns) -> dict[str, Any]:
    """For each column, the engine's expression for a value that may stand there."""
    from daft.functions import contains, length_bytes

    user = daft.col("user_id")
    right = {"user_id": length_bytes(user).between(1, MAX_ID_BYTES) & ~contains(user, "\0")}
    right |= {name: daft.col(name).between(low, high) for name, (low, high) in columns.limits.items()}
    return {name: expression.fill_null(False) for name, expression in right.items()}


def _all(expressions: list[Any]) -> Any:
    every = expressions[0]
    for expression in expressions[1:]:
        every = every & expression
    return every


def _value_fault(daft: Any, file: str, columns: Columns) -> str:
    """The first wrong value of a file that has one."""
    right = {f"{name} is right": expression for name, expression in _right(daft, columns).items()}
    values = _frame(daft, [glob.escape(file)], columns)
    before = 0
    for batch in values.select(*columns.names, *(one.alias(name) for name, one in right.items())).to_arrow_iter():
        checks = {name: batch.column(f"{name} is right").to_pylist() for name in columns.names}
        faults = [(of.index(False), name) for name, of in checks.items() if False in of]
        if faults:
            at, name = min(faults)
            value, limits = batch.column(name)[at].as_py(), columns.limits.get(name)
            needed = f"{limits[0]} to {limits[1]}" if limits else f"1 to {MAX_ID_BYTES} bytes, none of them NUL"
            said = "null" if value is None else repr(value)
            return f"{_plain(file)}: column {name}, row {before + at}: {said}, {needed} is needed"
        before += batch.num_rows
    raise AssertionError(f"{file} changed while it was read")


def _plain(file: str) -> str:
    """A file's name as its owner writes it."""
    return file.removeprefix("file://").replace("[[]", "[").replace("[*]", "*").replace("[?]", "?")
