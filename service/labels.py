"""Labels of a model's versions: which one answers, which one takes a share of the users, which one only looks on.

    bundles/<model>/labels.json     {"stable": "<version>", "canary": {"version", "percent"} | null, "shadow": "<version>" | null}

The file is what all processes over one folder agree on, and what a restart finds. Without one the newest good version is stable;
one that holds `null` says that the model is not to be served.
"""

import fcntl
import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from store.bundle import VERSION_PATTERN

FILE = "labels.json"
SHARES = 10_000  # of all users, that a canary's share is counted in

Version = Annotated[str, Field(pattern=f"^(?:{VERSION_PATTERN.pattern})$")]


class LabelsInvalid(ValueError):
    """A file of labels that cannot be read. The text names it and the field."""


class Canary(BaseModel):
    """A version that scores a share of the users."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    version: Version
    percent: float = Field(ge=0, le=100, allow_inf_nan=False)


class Labels(BaseModel):
    """What the versions of one model are for."""

    model_config = ConfigDict(
        extra="forbid", frozen=True,
        json_schema_extra={
            "examples": [{"stable": "20260131T120000Z", "canary": {"version": "20260207T120000Z", "percent": 5}, "shadow": None}]
        },
    )  # fmt: skip
    stable: Version
    canary: Canary | None = None
    shadow: Version | None = None

    @property
    def versions(self) -> set[str]:
        """All that have a label."""
        return set(self.by_label.values())

    @property
    def by_label(self) -> dict[str, str]:
        """Label -> version, of the labels that are given."""
        given = {"stable": self.stable, "canary": self.canary and self.canary.version, "shadow": self.shadow}
        return {label: version for label, version in given.items() if version}

    def of(self, label: str) -> str | None:
        """The version that has a label by which requests may ask; None: none has. A shadow never answers."""
        return None if label == "shadow" else self.by_label.get(label)

    def answering(self, model: str, user_id: str | None) -> str:
        """The version that answers a user: always the same one while the labels are. For nobody (None) it is the stable one."""
        if self.canary is None or user_id is None:
            return self.stable
        drawn = zlib.crc32(f"{model} {user_id}".encode()) % SHARES
        return self.canary.version if drawn < self.canary.percent * SHARES / 100 else self.stable

    def with_stable(self, version: str) -> "Labels":
        """The same with another stable version; it is no canary or shadow of itself."""
        canary = self.canary if self.canary and self.canary.version != version else None
        return Labels(stable=version, canary=canary, shadow=self.shadow if self.shadow != version else None)


def read_labels(model_folder: Path) -> Labels | None:
    """The labels of a model; None: it has no file of them, or is not to be served.

    Raises:
        LabelsInvalid: it cannot be read.
    """
    path = model_folder / FILE
    try:
        content = json.loads(path.read_bytes())
        return None if content is None else Labels.model_validate(content)
    except FileNotFoundError:
        return None
    except ValidationError as error:
        first = error.errors()[0]
        raise LabelsInvalid(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (OSError, ValueError) as error:
        raise LabelsInvalid(f"{path}: {error}") from None


@contextmanager
def changing(model_folder: Path) -> Iterator[None]:
    """Keep other processes of this machine from changing a model's labels while the block runs; waits for those that do.

    Raises:
        OSError: the folder cannot be opened.
    """
    folder = os.open(model_folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def write_labels(model_folder: Path, labels: Labels | None) -> None:
    """Write the file, whole or not at all; None: the model is not to be served.

    Raises:
        OSError: the folder cannot be written to.
    """
    unfinished = model_folder / f".{FILE}.{os.getpid()}"
    unfinished.write_text(("null" if labels is None else labels.model_dump_json(indent=1)) + "\n")
    os.replace(unfinished, model_folder / FILE)
