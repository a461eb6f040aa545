"""The path of a request. Read this first.

    request -> behaviours -> search (GSU) -> attend (ESU) -> scores

One step, one file: request.py, behaviours.py, search.py, attend.py, scores.py. A request runs whole
in one thread, with a blocking store client; the search kernels and onnxruntime leave the GIL.
"""

from dataclasses import dataclass

from service.attend import attend
from service.behaviours import StoreReader
from service.bundles import Bundles
from service.metrics import StageTimer
from service.request import ScoreRequest, understand
from service.scores import ScoreResponse, respond
from service.search import search
from service.search_threads import SearchThreads


@dataclass(frozen=True)
class Scorer:
    """What scoring needs, made once at start."""

    bundles: Bundles
    store: StoreReader
    table_max_age_s: float = 0  # 0 = item tables are never stale
    search_threads: SearchThreads | None = None  # None = a request's own


def score(request: ScoreRequest, scorer: Scorer, timer: StageTimer) -> ScoreResponse:
    """Score all candidates of one request.

    Raises:
        UnknownModel, NoModel, InvalidRequest, DeadlineExceeded: see errors.py. Never for the store.
    """
    loaded = scorer.bundles.get(request.model, request.user_id)  # one version of graph and tables, to the last step
    call = understand(request, loaded.bundle)

    timer.enter("behaviours")
    fetched = scorer.store.fetch(call, loaded.bundle)
    tables = loaded.tables_of(call, fetched, scorer.table_max_age_s)
    if fetched.store_failed or fetched.late or tables.store_failed:
        timer.give_back()

    timer.enter("search")
    searched = search(call, fetched, loaded.bundle, tables, timer.deadline, loaded.graph.takes, scorer.search_threads)

    timer.enter("attend")
    attended = attend(loaded.graph, searched, call.explain, timer.deadline)

    timer.enter("scores")
    return respond(call, fetched, searched, attended, loaded.bundle)
