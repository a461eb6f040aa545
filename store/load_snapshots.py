"""Snapshots of users from a file, as `python -m export precompute` leaves it, to the trees they stand for.

A snapshot made offline knows how many behaviours it was made of and which was the newest. Where the tree
holds just these, or newer ones beside them, it is stamped with the tree's arrivals clock and put in. Where
the tree is another, a late event say, it is left out: a keeper of states makes one from the tree.
"""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from redis import Redis

from store.behaviour_tree import BehaviourTree, Read
from store.load import NotPrepared
from store.schema import stored_schema
from store.snapshot import BadSnapshot, Snapshot, read_header, stamped
from store.states import PUT, put_snapshot

USERS_AT_ONCE = 500
COLUMNS = ("user_id", "snapshot")


def load_snapshots(path: Path, data: str, redis: Redis, written: Callable[[int, int], None]) -> str:
    """Bring the snapshots of one model into the store, in place of those of the same parameters; the model's name.

    `written(users, left_out)` is called as they are acknowledged. Cost: two round trips for some hundred users, one
    more for a user whose newest list does not reach back to the snapshot.

    Raises:
        NotPrepared: no file of snapshots, of another data set, or of one that the store does not hold.
    """
    schema = stored_schema(redis, data)
    if schema is None:
        raise NotPrepared(f"the store holds no data set {data}: load it first")
    tree = BehaviourTree(redis, data, len(schema.cross_features))
    try:
        with pq.ParquetFile(path) as file:
            stated = {key.decode(): value.decode() for key, value in (file.schema_arrow.metadata or {}).items()}
            if tuple(file.schema_arrow.names) != COLUMNS or "model" not in stated:
                raise NotPrepared(f"{path}: columns {', '.join(file.schema_arrow.names)}: no file of snapshots")
            if stated["data"] != data:
                raise NotPrepared(f"{path}: snapshots of data set {stated['data']}, not of {data}")
            for batch in file.iter_batches(USERS_AT_ONCE):
                users, blobs = batch["user_id"].to_pylist(), batch["snapshot"].to_pylist()
                calls = []
                for user_id, blob, read in zip(users, blobs, tree.read_newest_many(users), strict=True):
                    header = read_header(blob)
                    made_at = _made_at(header, read) or _made_at(header, read if read.whole else tree.read_life(user_id))
                    if made_at:
                        packed = stamped(blob, made_at)
                        calls.append(put_snapshot(data, user_id, read.arrived, stated["snapshot_id"], packed))
                kept = sum(PUT.run_all(redis, calls))
                written(kept, len(users) - kept)
            model: str = stated["model"]
            return model
    except (OSError, pa.ArrowInvalid) as error:
        raise NotPrepared(f"{path}: not readable as Parquet ({error})") from error
    except BadSnapshot as error:
        raise NotPrepared(f"{path}: {error}") from error


def _made_at(header: Snapshot, read: Read) -> int | None:
    """What the tree's arrivals clock showed when it held just the snapshot's behaviours; None = it does not say."""
    newer = len(read.behaviours) - header.first_newer(read.behaviours)
    at = len(read.behaviours) - newer - 1
    there = at >= 0 and (read.behaviours.row[at], read.behaviours.ts[at]) == (header.row, header.ts)
    return read.arrived - newer if there and read.total - newer == header.folded else None
