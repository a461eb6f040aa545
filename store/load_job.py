"""The job of a bulk load: behaviours in Parquet -> trees, run by Daft, in this process or on a Ray cluster.

Two streams over the files. The first only checks them, so that nothing is written unless all of it is right; the second
gives batches to workers, which write them (`store/tree_loader.py`) and answer what changed. Batches come in any order, and
a user may stand in many of them: trees are joined. A few batches are in memory, never all users.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from store.append import DEFAULT_CAPS, Caps
from store.connection import connect
from store.encode_trees import Lives
from store.parquet_behaviours import Columns, checked_files
from store.tree_loader import TreeLoader
from store.types import Rows

BATCH = 131_072  # behaviours
SETTINGS = {"DAFT_ANALYTICS_ENABLED": "0", "DAFT_PROGRESS_BAR": "0"}  # nothing is told to other hosts; the bar is ours


class NoCluster(ValueError):
    """A cluster was asked for, and cannot be."""


@dataclass(frozen=True)
class Job:
    """What is loaded, and where to; it travels to the workers."""

    behaviours: str  # a file, a folder or a glob of files; local, or a URL of an object store
    url: str  # of the store, as the workers reach it
    data: str
    buckets: dict[str, int]  # cross feature -> how many values it can have
    category: Rows  # [N] of each row of the registry
    caps: Caps = DEFAULT_CAPS


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was done."""

    behaviours: int
    changed: int  # of them, in trees that were made or changed; the others were there already
    seconds: float = field(default=0.0, compare=False)


def checked_job(job: Job, ray: str | None = None) -> Callable[[Callable[[Loaded], None]], Loaded]:
    """Check the files; the load itself, to be called with what is told of each batch as it is acknowledged.

    A load that was killed is finished by running it again. Cost of the check: one stream over the files.

    Args:
        ray: address of a Ray cluster to run on, whose workers have this package; None = in this process, on all cores.

    Raises:
        BadBehaviours: a file is missing or unreadable, or one of its values is wrong.
        NoCluster: `ray` is not installed.
        redis.exceptions.RedisError: from the load, the store failed.
    """
    daft = _engine(ray)
    columns = Columns(len(job.category), job.buckets)
    frame = checked_files(daft, job.behaviours, columns)
    daft.method.batch(_Worker.load, return_dtype=daft.DataType.bool(), batch_size=BATCH)
    worker = daft.cls(_Worker, use_process=False)(job)
    changes = frame.select(worker.load(*(daft.col(name) for name in columns.names)).alias("changed"))

    def load(written: Callable[[Loaded], None]) -> Loaded:
        behaviours, changed, started = 0, 0, time.perf_counter()
        for batch in changes.to_arrow_iter():
            one = Loaded(batch.num_rows, batch.column(0).true_count)
            behaviours, changed = behaviours + one.behaviours, changed + one.changed
            written(one)
        return Loaded(behaviours, changed, time.perf_counter() - started)

    return load


class _Worker:
    """Loads batches; each process of the engine has one."""

    def __init__(self, job: Job) -> None:
        self._category = job.category
        self._loader = TreeLoader(connect(job.url), job.data, len(job.buckets), job.caps)

    def load(self, user_id: Any, row: Any, ts: Any, *cross: Any) -> pa.Array:
        """Write a batch, given as the engine's columns; for each behaviour whether its user's tree was made or changed."""
        ids = user_id.to_arrow().dictionary_encode()
        user, rows = ids.indices.to_numpy().astype(np.int64), row.to_arrow().to_numpy().astype(np.int32)
        buckets = np.empty((len(user), len(cross)), np.uint8)
        for j, column in enumerate(cross):
            buckets[:, j] = column.to_arrow().to_numpy()
        lives = Lives(user, rows, self._category[rows], ts.to_arrow().to_numpy(), buckets)
        return pa.array(self._loader.load(ids.dictionary.to_pylist(), lives)[user])


def _engine(ray: str | None) -> Any:
    """Daft, quiet; on the cluster if there is one. Imported here: half a second that other commands do without."""
    os.environ.update(SETTINGS)
    import daft

    if ray is None:
        daft.set_execution_config(scantask_max_parallel=os.cpu_count())  # files read at once; its own default takes memory
    else:
        try:
            from ray import init
        except ImportError:
            raise NoCluster("a load on a Ray cluster needs the package ray: pip install 'longtrail[ray]'") from None
        init(ray, runtime_env={"env_vars": SETTINGS}, log_to_driver=False, ignore_reinit_error=True)
        daft.set_runner_ray(noop_if_initialized=True)
    return daft
