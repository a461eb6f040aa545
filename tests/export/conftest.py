"""One small data set for all tests of training, and one thread: more only wait for each other on batches this small."""

import pytest
import torch

from export.data.prepare import prepare
from tests.export.data import own


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    return prepare(str(own.write(folder / "shop")), into=folder / "data")
