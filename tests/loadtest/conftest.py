"""What tests of several benchmarks share."""

import pytest

from loadtest.served.bench_world import BenchWorld, Sizes


@pytest.fixture(scope="session")
def bench_world():
    """A small made-up data set; no test changes it."""
    return BenchWorld(Sizes(items=2_000, categories=40, life_categories=20))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the bundles of a file's tests are; made once for all of them."""
    return tmp_path_factory.mktemp("bench")
