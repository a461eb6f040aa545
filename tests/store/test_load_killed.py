"""kill -9 of a load at random points: the next one finishes it, and the store is that of a load that was left alone."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from store import keys
from store.behaviour_tree import encode_tree
from store.load import load
from store.load_job import Loaded
from tests.store.events import behaviours_of

ROOT = Path(__file__).parent.parent.parent
USERS, BEHAVIOURS = 6_000, 40
CATEGORY = {2: 2, 3: 3, 4: 2, 5: 4}


def events_of_user(user):
    return [(2 + (user + i) % 4, CATEGORY[2 + (user + i) % 4], 1_000 * user + i, i % 4) for i in range(BEHAVIOURS)]


@pytest.fixture
def prepared(prepare):
    """A data set whose row groups cut users in two."""
    events = [(f"{user:04d}", row, ts, price) for user in range(USERS) for row, _, ts, price in events_of_user(user)]
    return prepare(events, row_group=1_990)


@pytest.fixture
def trees(redis, data_name):
    """Each user's tree, without its clock."""

    def read():
        found = list(redis.scan_iter(f"{data_name}:tree:*", count=1000))
        lives = {keys.user_id_of(key.decode()): redis.hgetall(key) for key in found}
        return {user: {name: value for name, value in life.items() if name != b"a"} for user, life in lives.items()}

    return read


def killed_load(prepared, url, written_enough):
    """Start `python -m store load` and kill it once `written_enough()`; whether it still ran."""
    command = [sys.executable, "-m", "store", "load", "--data", prepared.schema.data, "--url", url]
    process = subprocess.Popen([*command, "--prepared", str(prepared.folder.parent)], cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        while process.poll() is None and not written_enough():
            time.sleep(0.0005)
        return process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_a_load_that_is_killed_is_finished_by_the_next(prepared, redis, store_url, data_name, trees):
    chance, before, cut = random.Random(4), redis.dbsize(), 0
    for _ in range(3):
        enough = before + len(trees()) + chance.randrange(20, USERS // 8)
        cut += killed_load(prepared, store_url, lambda enough=enough: redis.dbsize() >= enough)
    assert cut
    assert 0 < len(trees()) < USERS
    done = load(prepared, store_url, lambda one: None)
    assert done.behaviours == USERS * BEHAVIOURS
    assert 0 < done.changed < done.behaviours
    expected = {f"{user:04d}": encode_tree(behaviours_of(*events_of_user(user))) | {b"t": b"40"} for user in range(USERS)}
    assert trees() == expected
    assert load(prepared, store_url, lambda one: None) == Loaded(USERS * BEHAVIOURS, 0)
