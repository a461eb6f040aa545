"""The order in which training sees its requests: older ones first, the last week last, shuffled within both.

So that the weights before the last week are those of a model that was refreshed a week earlier: the
report measures searches with them.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from store.types import Seconds


class Order:
    """Batches of request indices, those of all epochs one after another; what Lightning takes for a data loader.

    Every request is in exactly one batch of an epoch, and in that of one process. The order of an epoch
    comes from (seed, epoch) alone: its state is the number of batches done.
    """

    def __init__(self, at: Seconds, last_week: int, batch: int, epochs: int, seed: int, processes: int = 1) -> None:
        """Lay out the steps.

        Args:
            at: int64 [n], the times of the requests, any order; last_week: when the last block begins.
            batch: requests a batch and process; batches of a block differ by at most one request a process.
        """
        self.epochs, self.seed, self.processes = epochs, seed, processes
        self.process = 0
        self.done = 0
        blocks = [np.flatnonzero(at < last_week), np.flatnonzero(at >= last_week)]
        if min(map(len, blocks)) < processes:
            blocks = [np.arange(len(at))]
        self.blocks = blocks
        # never less than a request for each process: one without would hold up the others
        self.steps = [max(min(-(-len(block) // (batch * processes)), len(block) // processes), 1) for block in blocks]

    @property
    def steps_an_epoch(self) -> int:
        return sum(self.steps)

    def __len__(self) -> int:
        return self.steps_an_epoch * self.epochs

    @property
    def week_old(self) -> int | None:
        """The step before which all but the last week has been seen for the last time; None = there is one block only."""
        return len(self) - self.steps[-1] if len(self.blocks) > 1 else None

    def begins_block(self, step: int) -> bool:
        """Whether a block, and so a new epoch or its last week, begins with this step."""
        return step % self.steps_an_epoch in np.cumsum([0, *self.steps[:-1]])

    def __iter__(self) -> Iterator[list[int]]:
        """Batches from the first that is not done."""
        while self.done < len(self):
            epoch, step = divmod(self.done, self.steps_an_epoch)
            for batch in self._epoch(epoch)[step:]:
                self.done += 1
                yield np.array_split(batch, self.processes)[self.process].tolist()

    def _epoch(self, epoch: int) -> list[NDArray[np.intp]]:
        random = np.random.default_rng([self.seed, epoch])
        return [
            batch
            for block, steps in zip(self.blocks, self.steps, strict=True)
            for batch in np.array_split(random.permutation(block), steps)
        ]

    def state_dict(self) -> dict[str, int]:
        """For Lightning's checkpoints."""
        return {"done": self.done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where a checkpoint was."""
        self.done = state["done"]
