"""python -m loadtest.peers.forward_ours BUNDLE FOLDER THREADS [--whole-life]: search and attend for one request, a turn each.

The search has one thread whatever THREADS is: they are the graph's. Imports what a scorer imports and no more: memory is
measured.
"""

import sys
import time
from pathlib import Path

import numpy as np

from loadtest.peers.turns import answer_turns
from service.attend import attend
from service.behaviours import Fetched
from service.loading import LoadedBundle, Loading
from service.request import Call
from service.search import search
from store.snapshot import Snapshot
from store.types import Behaviours, Candidates

REQUEST = "request.npz"  # the life, the candidates, `at`, `context`, and `tail`: behaviours after a snapshot
NEWEST = 100  # behaviours that a request for a state reads beside its snapshot
PATIENT_S = 3600  # a deadline that nothing here meets


def read_request(folder: Path) -> tuple[Call, Behaviours, int]:
    """A request, the life of its user, and the length of its tail."""
    with np.load(folder / REQUEST) as a:
        candidates = Candidates(a["candidate_row"], a["candidate_category"])
        call = Call("one", candidates, int(a["at"]), None, a["context"], 0, 0)
        return call, Behaviours(a["row"], a["category"], a["ts"], a["cross"]), int(a["tail"])


def kept(loaded: LoadedBundle, life: Behaviours, tail: int) -> Fetched:
    """What a request reads of a user whose state was kept before it: a snapshot, and the newest, `tail` of them after it."""
    older = life.select(slice(0, max(len(life) - tail, 0)))
    newest = life.select(slice(max(len(life) - NEWEST, 0), None))
    of_all = Snapshot.of(older, state=loaded.graph.fold(None, older.row))
    covers = max(len(newest) - tail, 0)
    return Fetched(newest, Snapshot(of_all.folded, of_all.row, of_all.ts, covers, state=of_all.state))


def main(bundle: Path, folder: Path, threads: int, whole_life: bool) -> None:
    """Answer turns until stdin ends."""
    loaded, (call, life, tail) = Loading("cpu", threads).load(bundle), read_request(folder)
    fetched = kept(loaded, life, tail) if loaded.bundle.manifest.state and not whole_life else Fetched(life)

    def score() -> None:
        deadline = time.perf_counter() + PATIENT_S
        searched = search(call, fetched, loaded.bundle, deadline=deadline, takes=loaded.graph.takes)
        attend(loaded.graph, searched, 0, deadline)

    answer_turns(score)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), "--whole-life" in sys.argv)
