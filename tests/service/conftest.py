"""Fixtures of the service's tests: the trained world's scorer, and a tiny one that is computed by hand."""

import pytest

from service.attend import Graph
from store.bundle import Bundle
from tests.service.tiny import SEARCH_OF, VERSION, Tiny
from tests.world import scorer_process


@pytest.fixture(scope="session")
def scorer(world):
    """A client of one scorer process over the trained world, as a user starts it."""
    with scorer_process(world.bundles, world.store_url) as client:
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
