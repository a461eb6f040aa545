"""Fixtures only: a real store per session, a data set of its own per test."""

import os
import tempfile
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import settings

from store.connection import connect
from store.embedded import embedded_store

# Small operations in many threads wait for each other, most of all on a machine that does other things; before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run; no deadline, because the first call of a kernel compiles it.
settings.register_profile("longtrail", derandomize=True, deadline=None)
settings.load_profile("longtrail")


@pytest.fixture(scope="session")
def store_url():
    """One real server for the whole session, in a short temporary path (a socket's is limited)."""
    with tempfile.TemporaryDirectory(prefix="lt-") as folder, embedded_store(Path(folder)) as url:
        yield url


@pytest.fixture
def redis(store_url):
    """A client of the session's store."""
    client = connect(store_url)
    yield client
    client.close()


@pytest.fixture
def data_name():
    """The name of a data set that no other test uses, so a test owns its keys."""
    return f"t-{uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def world(tmp_path_factory, store_url):
    """Every model trained on real data for a day's impressions, bundled; all behaviours loaded into the session's store."""
    from tests.world import build_world  # it brings torch, which most tests do without

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # of all processes
    (folder / "world").mkdir(exist_ok=True)
    return build_world(folder / "world", store_url)
