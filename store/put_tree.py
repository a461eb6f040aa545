"""One user's tree written by one server-side script, `put_tree.lua`: all of it or nothing.

A writer says what it saw of the tree: that there was none, or its arrivals clock (field `a`) and total (`t`), one of
which every append changes. If that is no longer so the script writes nothing, and the writer reads again: no key is
watched, so many users are written in one pipeline, on a cluster too.
"""

from collections.abc import Sequence
from pathlib import Path

from store import keys
from store.scripts import Call, Script
from store.types import Blobs

SCRIPT = Script(Path(__file__).with_suffix(".lua").read_text())
ABSENT, ANY = b"none", b"any"  # in place of a clock: there was no tree; whatever there is, replace it


def clock(life: Blobs) -> bytes:
    """What the arrivals clock of a tree showed, as the script has it."""
    return b"=" + life.get(keys.ARRIVED_FIELD, b"")


def put_tree(
    data: str, user_id: str, blobs: Sequence[bytes], total: int, added: int, seen: bytes = ANY, seen_total: bytes = b"",
    gone: Sequence[bytes] = (), ttl_s: int = 0,
) -> Call:  # fmt: skip
    """A call of the script.

    Args:
        blobs: field, value, field, value, ... to write. gone: fields to remove.
        total: behaviours of the tree once it is written. added: how many of them it did not hold.
        seen, seen_total: `clock`, and field `t`, as they were read; or ABSENT or ANY, and empty.
        ttl_s: time to live of the tree, 0 = none.
    """
    own = [keys.tree(data, user_id), keys.states(data, user_id)]
    return Call(own, [seen, seen_total, total, added, ttl_s, len(gone), *gone, *blobs])


def flat_of(blobs: Blobs) -> list[bytes]:
    """Field, value, field, value, ..."""
    return [part for entry in blobs.items() for part in entry]
