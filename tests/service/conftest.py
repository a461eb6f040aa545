"""Fixtures of the service's tests: the trained world's scorer, a tiny one that is computed by hand, and the page in a browser."""

import os
import shutil
from pathlib import Path

import pytest

from service.attend import Graph
from service.ui import FOLDER
from store.bundle import Bundle
from tests.service.serving import NOBODY, served
from tests.service.shown import MODELS
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


@pytest.fixture(scope="module")
def two_models(world, tmp_path_factory):
    """Bundles of two models that explain: fewer to load than all."""
    folder = tmp_path_factory.mktemp("two")
    for model in MODELS:
        shutil.copytree(world.bundles / model, folder / model)
    return folder


@pytest.fixture(scope="module")
def url(two_models, store_url):
    with served(two_models, store_url) as (client, _):
        yield str(client.base_url).rstrip("/") + "/"


@pytest.fixture(scope="module")
def without_store(two_models):
    with served(two_models, NOBODY) as (client, _):
        yield str(client.base_url).rstrip("/") + "/"


@pytest.fixture(scope="module")
def started():
    from tests.service.browser import browser  # selenium is not everywhere

    with browser() as one:
        yield one


@pytest.fixture
def page(started):
    """The browser; a test that leaves complaints in its console, and has not looked at them, fails."""
    started.complaints()
    yield started
    assert started.complaints() == []


@pytest.fixture
def keep(page, tmp_path):
    """Take a picture under a name; where asked for, among the README's."""
    kept = os.environ.get("LONGTRAIL_SCREENSHOTS")
    return lambda name: page.shoot(Path(FOLDER / "screenshots" if kept else tmp_path) / f"{name}.png")
