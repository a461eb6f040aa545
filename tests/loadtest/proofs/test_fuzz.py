"""What is concluded from bytes that are no requests."""

import socket
import threading
from collections import Counter

import pytest

from loadtest.proofs import fuzz as fuzzing
from loadtest.proofs.fuzz import HUNG_UP, SILENT, Fuzzed, fuzz_rows


def met(**kinds):
    seen = Fuzzed(100, Counter(kinds), alive="200")
    return [row.met for row in fuzz_rows(seen, 1.0)]


def test_a_scorer_that_says_nothing_is_found_out_and_who_hangs_up_is_no_such():
    assert met(**{"4xx": 99, SILENT: 1}) == [True] * 3
    assert met(**{"4xx": 98, SILENT: 2}) == [True, False, True]
    assert met(**{"4xx": 60, HUNG_UP: 40}) == [True] * 3


@pytest.mark.parametrize(("says", "kind"), [(None, "silent"), (b"", "closed"), (b"HTTP/1.1 404 Not Found\r\n\r\n", "404")])
def test_silence_is_told_from_an_end(says, kind):
    class Never:
        def random(self):
            return 0.5

    with socket.create_server(("127.0.0.1", 0)) as server:
        over = threading.Event()

        def answer():
            connection, _ = server.accept()
            connection.recv(100)
            if says is None:
                over.wait(5)
            else:
                connection.sendall(says)
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        assert fuzzing._answer(server.getsockname()[1], b"x", Never()) == kind
        over.set()
        thread.join()
