"""Sessions (DSIN, 3.2): the newest behaviours, cut where more than half an hour lies between two.

Of each session the newest behaviours are kept, of the sessions the newest five. The cut is a gap, not
a length: a session may last for hours. The newest session may still go on; it holds what the user has
done so far.
"""

import numpy as np

from store.search.spec import Search
from store.types import Behaviours, Candidates, Retrieved, Rows

GAP_S = 30 * 60
SESSIONS = 5  # DSIN 4.3


class SessionSearch(Search):
    """G = 1, S = C, K = 5 sessions of K / 5 places, the newest session last, each filled from its first place.

    With fewer sessions the first ones are empty. Sessions are cut in the newest 2 K behaviours only,
    so the oldest of them may have lost its beginning. What is left of a K that 5 does not divide is
    padding behind.
    """

    reads = "newest"
    group = None

    @property
    def newest(self) -> int:
        return 2 * self.k

    def __call__(self, candidates: Candidates, behaviours: Behaviours, cross: Rows) -> Retrieved:
        length = self.k // SESSIONS  # T, places of a session
        first = max(len(behaviours) - self.newest, 0)
        ts = behaviours.ts[first:]
        cuts = np.flatnonzero(np.diff(ts) > GAP_S) + 1
        starts = np.append(0, cuts)[-SESSIONS:]  # the empty user has one session of nothing
        ends = np.append(cuts, len(ts))[-SESSIONS:]
        starts = np.maximum(starts, ends - length)

        mask = np.zeros((SESSIONS, length), np.bool_)
        index = np.zeros((SESSIONS, length), np.int32)
        place = starts[:, None] + np.arange(length)  # [sessions, T]
        mask[-len(starts) :] = place < ends[:, None]
        index[-len(starts) :] = np.where(mask[-len(starts) :], first + place, 0)
        left = (0, self.k - mask.size)
        return Retrieved(
            np.pad(index.ravel(), left)[None], np.pad(mask.ravel(), left)[None],
            np.arange(len(candidates.row), dtype=np.int32), len(ts),
        )  # fmt: skip
