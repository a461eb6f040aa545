"""Reading array files: whatever is wrong with one is one kind of error, and it names the file."""

import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class BadArrays(ValueError):
    """A file that is no .npy or .npz, or that is truncated or altered."""


_FAULTS = (OSError, EOFError, KeyError, ValueError, TypeError, AttributeError, zipfile.BadZipFile)


def read_arrays(path: Path, names: tuple[str, ...], content: bytes | None = None) -> dict[str, NDArray[Any]]:
    """The named arrays of an .npz file, all read. Nothing is unpickled.

    `content`: the file's bytes, where they come from elsewhere; `path` then only names it.

    Raises:
        BadArrays: the file or one of the arrays cannot be read.
    """
    try:
        with path.open("rb") if content is None else BytesIO(content) as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names}
    except _FAULTS as error:
        raise BadArrays(f"{path}: {type(error).__name__}: {error}") from error


def map_array(path: Path) -> NDArray[Any]:
    """An .npy file, mapped: processes share its pages.

    Raises:
        BadArrays: it cannot be read as one array.
    """
    try:
        return np.asarray(np.lib.format.open_memmap(path, mode="r"))
    except _FAULTS as error:
        raise BadArrays(f"{path}: {type(error).__name__}: {error}") from error
