import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from store.connection import connect
from store.embedded import StoreUnavailable, answers, embedded_store

ROOT = Path(__file__).parents[2]
OWNER = "import sys, pathlib; from store.embedded import embedded_store\n"
OWNER += "with embedded_store(pathlib.Path(sys.argv[1])) as url: print(url, flush=True); sys.stdin.read()"

ENDED_AS_IT_STARTS = "import os, signal, sys, store.__main__ as command\n"
ENDED_AS_IT_STARTS += "command.console.print = lambda *_: os.kill(os.getpid(), signal.SIGTERM)\n"
ENDED_AS_IT_STARTS += "sys.argv[1:1] = ['embedded', '--folder']; command.main()"


@pytest.fixture
def folder():
    """A folder with a short path: that of a socket is limited to about a hundred bytes."""
    with tempfile.TemporaryDirectory(prefix="lt-") as name:
        yield Path(name).resolve()


@contextmanager
def client_of(url):
    client = connect(url, timeout_s=5)
    try:
        yield client
    finally:
        client.close()


def kill_and_find_a_store(folder, command, end):
    """Start a process that owns a store, end it, and open the folder again; nothing is left running."""
    process = subprocess.Popen(
        [sys.executable, *command, str(folder)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    url = process.stdout.readline().strip().removeprefix("store: ")
    try:
        with client_of(url) as client:
            client.set("kept", "yes")
        process.send_signal(end)
        process.communicate(timeout=30)
        with embedded_store(folder) as again, client_of(again) as client:
            assert again == url or not answers(url), "two servers write one file"
            return client.get("kept"), process.returncode
    finally:
        with client_of(url) as client, suppress(RedisError):  # none is there: it ended, as it should
            client.shutdown(nosave=True)
        socket_folder = Path(url.removeprefix("unix://")).parent
        if socket_folder != folder:
            shutil.rmtree(socket_folder, ignore_errors=True)


def test_the_store_answers_at_its_url(folder):
    with embedded_store(folder) as url, client_of(url) as client:
        assert client.ping()
        assert answers(url)


def test_the_folder_is_made_where_it_is_missing(folder):
    with embedded_store(folder / "a" / "b") as url:
        assert answers(url)


def test_nothing_listens_on_a_port(folder):
    with embedded_store(folder) as url, client_of(url) as client:
        assert url.startswith("unix://")
        assert client.config_get("port") == {"port": "0"}


def test_the_store_ends_with_its_owner(folder):
    with embedded_store(folder) as url:
        pass
    assert not answers(url)


def test_the_store_ends_when_its_owner_fails(folder):
    with pytest.raises(KeyError), embedded_store(folder) as url:
        raise KeyError("failed")
    assert not answers(url)


def test_data_survives_a_restart(folder):
    with embedded_store(folder) as url, client_of(url) as client:
        client.hset("tree", mapping={"2": b"\xb1\0", "n": b"\xff"})
    with embedded_store(folder) as url, client_of(url) as client:
        assert client.hgetall("tree") == {b"2": b"\xb1\0", b"n": b"\xff"}


def test_data_survives_a_killed_server(folder):
    with embedded_store(folder) as url, client_of(url) as client:
        client.set("kept", "yes")
        client.config_set("appendfsync", "always")
        client.set("kept too", "yes")
        os.kill(client.info("server")["process_id"], signal.SIGKILL)
    with embedded_store(folder) as url, client_of(url) as client:
        assert client.mget("kept", "kept too") == [b"yes", b"yes"]


def test_the_settings_that_matter_are_set(folder):
    wanted = {"appendonly": "yes", "appendfsync": "everysec", "save": ""}
    wanted |= {"hash-max-listpack-value": "65536", "hash-max-listpack-entries": "256"}
    with embedded_store(folder) as url, client_of(url) as client:
        assert {name: client.config_get(name)[name] for name in wanted} == wanted


def test_a_second_store_on_the_same_folder_is_the_running_one(folder):
    with embedded_store(folder) as first, embedded_store(folder) as second:
        with client_of(first) as client:
            client.set("a", "1")
        with client_of(second) as client:
            assert client.get("a") == b"1"


def test_leaving_the_second_store_does_not_stop_the_first(folder):
    with embedded_store(folder) as first:
        with embedded_store(folder):
            pass
        assert answers(first)


def test_a_process_uses_the_store_that_another_runs(folder):
    with embedded_store(folder) as url, client_of(url) as client:
        client.set("a", "1")
        done = subprocess.run(
            [sys.executable, "-c", OWNER, str(folder)], cwd=ROOT, input="", capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == url
        assert client.get("a") == b"1"


def test_two_folders_are_two_stores(folder):
    with embedded_store(folder / "a") as one, embedded_store(folder / "b") as other, client_of(one) as client:
        client.set("a", "1")
        with client_of(other) as second:
            assert second.get("a") is None


def test_a_folder_too_deep_for_a_socket_works_and_keeps_its_data(folder):
    deep = folder / ("x" * 60) / ("y" * 60)
    with embedded_store(deep) as url, client_of(url) as client:
        client.set("a", "1")
        with embedded_store(deep) as second:
            assert second == url
    assert not Path(url.removeprefix("unix://")).parent.exists(), "the socket's own folder goes with it"
    with embedded_store(deep) as url, client_of(url) as client:
        assert client.get("a") == b"1"


def test_a_locked_folder_where_nothing_answers_is_refused_by_name(folder, monkeypatch):
    monkeypatch.setattr("store.embedded.START_S", 1)
    (folder / "url").write_text(f"unix://{folder}/store.sock")
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StoreUnavailable, match=str(folder)), embedded_store(folder):
            pass


def test_a_folder_whose_store_is_still_starting_is_refused_or_waited_for(folder, monkeypatch):
    monkeypatch.setattr("store.embedded.START_S", 1)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StoreUnavailable, match=str(folder)), embedded_store(folder):
            pass


def test_a_server_that_does_not_start_is_reported_with_its_log(folder):
    (folder / "appendonlydir").write_text("in the way")
    with pytest.raises(StoreUnavailable, match=r"valkey\.log"), embedded_store(folder):
        pass


def test_after_a_failed_start_the_folder_is_free_again(folder):
    (folder / "appendonlydir").write_text("in the way")
    with pytest.raises(StoreUnavailable), embedded_store(folder):
        pass
    (folder / "appendonlydir").unlink()
    with embedded_store(folder) as url:
        assert answers(url)


@pytest.mark.parametrize("name", ["my projects", "100%41", "issue#7", "what?"])
def test_a_folder_of_any_name_can_hold_a_store(folder, name):
    with embedded_store(folder / name) as url, client_of(url) as client:
        assert client.ping()


def test_a_killed_owner_does_not_lock_its_folder(folder):
    assert kill_and_find_a_store(folder, ["-c", OWNER], signal.SIGKILL)[0] == b"yes"


def test_a_killed_owner_of_a_deep_folder_leaves_no_second_server(folder):
    deep = folder / ("x" * 60) / ("y" * 60)
    assert kill_and_find_a_store(deep, ["-c", OWNER], signal.SIGKILL)[0] == b"yes"


def test_the_command_stops_its_server_when_it_is_terminated(folder):
    command = ["-m", "store", "embedded", "--folder"]
    assert kill_and_find_a_store(folder, command, signal.SIGTERM) == (b"yes", 0)


def test_a_command_that_is_terminated_as_it_starts_leaves_no_server(folder):
    ended = subprocess.run([sys.executable, "-c", ENDED_AS_IT_STARTS, str(folder)], cwd=ROOT, timeout=60)
    assert ended.returncode == 0
    assert not (folder / "url").exists()
    with embedded_store(folder, borrow=False) as url:
        assert answers(url)


def test_nothing_answers_where_no_store_is(folder):
    assert not answers(f"unix://{folder}/store.sock")
    assert not answers("redis://127.0.0.1:1")


def test_a_store_of_another_process_is_not_borrowed_by_who_must_not(folder):
    """A scorer on a borrowed store would lose it with its owner."""
    with embedded_store(folder) as url, pytest.raises(StoreUnavailable, match=url), embedded_store(folder, borrow=False):
        pass
