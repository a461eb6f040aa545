"""Tiny bundles with item vectors of their own, published; and a scorer that reads what is published."""

import os
import shutil
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np

from service.behaviours import StoreReader
from service.bundles import Bundles
from service.loading import Loading
from service.metrics import Metrics
from service.pipeline import Scorer
from service.table_refresh import TableRefresher
from store import keys
from store.bundle import Bundle
from store.connection import connect
from store.publish import publish
from tests.service import tiny as tiny_module


def other_vectors(seed):
    """Vectors so different from the tiny installation's that every score is another."""
    return np.random.default_rng(seed).normal(0, 1, tiny_module.VECTORS.shape).astype(np.float32)


def refreshed(tiny, model, version, seed):
    """The bundle of a model as a refresh leaves it: the same graph, other vectors, golden scores of its own."""
    with patch.object(tiny_module, "VECTORS", other_vectors(seed)):
        return Bundle(tiny.add(model, version))


def published(url, bundle, **arguments):
    client = connect(url)
    sent = publish(bundle, client, **arguments)
    client.close()
    return sent


@contextmanager
def reading(bundles, url, cache_bytes=1 << 20, limit_s=5.0, timeout_s=5.0, **arguments):
    """A pipeline over published tables, and what refreshes it; the first look is taken."""
    metrics = Metrics()
    loaded = Bundles(bundles, "", "", Loading("cpu", 1), metrics)
    client, own = connect(url, timeout_s), connect(url, 10)
    refresher = TableRefresher(loaded, client, own, cache_bytes, limit_s, metrics)
    refresher.poll()
    yield Scorer(loaded, StoreReader(client, metrics), **arguments), refresher, metrics
    client.close()
    own.close()


def alone(world, model, folder):
    """A folder with one model's bundle of the world, and that bundle's own."""
    (version,) = (world.bundles / model).iterdir()
    shutil.copytree(version.parent, folder / model, copy_function=os.link)
    return folder, version


def forget(client, data):
    """Remove everything that is published of a data set."""
    for key in client.scan_iter(match=f"{data}:table:*", count=5000):
        client.unlink(key)
    client.delete(keys.tables(data), keys.unfinished_tables(data))


def counted(metrics, name, **labels):
    """A sample of the metrics."""
    return metrics.registry.get_sample_value(name, labels) or 0.0
