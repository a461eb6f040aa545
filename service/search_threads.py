"""One search in several threads: each searches for a part of the candidates. The kernels leave the GIL, and what a candidate
gets does not depend on the others, so answers are the same whatever the number."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from store.search import Search
from store.types import Behaviours, Candidates, Retrieved, Rows

WORTH = 1_000_000  # candidates times behaviours; less is done before another thread has begun

Searching = Callable[[Candidates, Behaviours, Rows], Retrieved]


class SearchThreads:
    """Threads that searches share."""

    def __init__(self, threads: int, requests: int) -> None:
        """`threads`: of one search, 1 = the caller's alone; `requests`: how many search at the same time."""
        self._threads = threads
        self._pool = ThreadPoolExecutor(max(requests * (threads - 1), 1), thread_name_prefix="search")  # starts none yet

    def close(self) -> None:
        """Let the threads end."""
        self._pool.shutdown()

    def of(self, search: Search) -> Searching:
        """The search, in these threads where each candidate has a list of its own and there is enough to do."""
        if self._threads == 1 or search.group != 1:
            return search

        def together(candidates: Candidates, behaviours: Behaviours, cross: Rows) -> Retrieved:
            if len(candidates.row) * len(behaviours) < WORTH:
                return search(candidates, behaviours, cross)
            own, *others = _parts(candidates, self._threads)
            futures = [self._pool.submit(search, part, behaviours, cross) for part in others]
            return _joined([search(own, behaviours, cross), *(future.result() for future in futures)])

        return together


def _parts(candidates: Candidates, number: int) -> list[Candidates]:
    rows, categories = np.array_split(candidates.row, number), np.array_split(candidates.category, number)
    return [Candidates(row, category) for row, category in zip(rows, categories, strict=True) if len(row)]


def _joined(parts: list[Retrieved]) -> Retrieved:
    """Lists of one candidate each, in the order of the candidates."""
    index = np.concatenate([part.index for part in parts])
    return replace(
        parts[0], index=index, mask=np.concatenate([part.mask for part in parts]), place=np.arange(len(index), dtype=np.int32),
    )  # fmt: skip
