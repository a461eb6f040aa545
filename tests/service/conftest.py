"""Fixtures of the service's tests: a trained world with its scorer, and a tiny one that is computed by hand."""

import tempfile
from pathlib import Path

import pytest

from service.attend import Graph
from store.bundle import Bundle
from store.embedded import embedded_store
from tests.service.tiny import SEARCH_OF, VERSION, Tiny
from tests.world import build_world, scorer_process


@pytest.fixture(scope="session")
def service_world():
    """Four models trained on real data, bundled, and every behaviour in a store of their own."""
    with tempfile.TemporaryDirectory(prefix="lt-") as folder, embedded_store(Path(folder) / "store") as url:
        yield build_world(Path(folder), url)


@pytest.fixture(scope="session")
def scorer(service_world):
    """A client of one scorer process over the trained world."""
    with scorer_process(service_world.bundles, service_world.store_url) as client:
        yield client


@pytest.fixture(scope="session")
def shared_tiny(tmp_path_factory):
    """A tiny installation with a model per way of reading the tree; no test changes it."""
    tiny = Tiny.at(tmp_path_factory.mktemp("bundles"))
    for model in SEARCH_OF:
        tiny.add(model)
    return tiny


@pytest.fixture
def tiny(tmp_path, data_name):
    """A tiny installation of the test's own, without bundles."""
    return Tiny.at(tmp_path / "bundles", data_name)


@pytest.fixture(scope="session")
def din(shared_tiny):
    """The tiny bundle that attends to the newest three behaviours."""
    return Bundle(shared_tiny.bundles / "din" / VERSION)


@pytest.fixture(scope="session")
def sim_hard(shared_tiny):
    """The tiny bundle that attends to the candidate's category, in groups of four places."""
    return Bundle(shared_tiny.bundles / "sim_hard" / VERSION)


@pytest.fixture(scope="session")
def eta(shared_tiny):
    """The tiny bundle that attends to the whole life."""
    return Bundle(shared_tiny.bundles / "eta" / VERSION)


@pytest.fixture(scope="session")
def din_graph(din):
    """The graph of din in a session."""
    return Graph(din, "cpu", 1)
