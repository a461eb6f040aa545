"""Behaviours written down as a test reads them: one tuple (row, category, ts, cross...) each."""

import numpy as np

from store.types import Behaviours


def behaviours_of(*events, cross_features=0):
    """Behaviours from tuples, in the order given; J is the tuples' (`cross_features` where there are none)."""
    width = len(events[0]) if events else 3 + cross_features
    table = np.array(events, np.int64).reshape(-1, width)
    return Behaviours(
        table[:, 0].astype(np.int32), table[:, 1].astype(np.int32), table[:, 2].copy(), table[:, 3:].astype(np.uint8)
    )


def events_of(behaviours):
    """The same tuples back."""
    columns = (behaviours.row, behaviours.category, behaviours.ts, *behaviours.cross.T)
    return [tuple(int(value) for value in event) for event in zip(*columns, strict=True)]
