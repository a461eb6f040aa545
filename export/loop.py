"""Lightning's loop around our batches, in one process or several (DDP).

Two optimisers: a sparse Adam for the item tables, whose gradients touch only a batch's rows, and
Adam for the rest; both learning rates fall linearly. To Lightning all epochs are one, so that a step
has one number everywhere. What a step draws at random comes from (seed, step, process) alone: a
checkpoint needs no generator's state, and an interrupted run ends with the weights of one that was
not.
"""

import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from threading import Thread
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from export.batches import Batcher
from export.data.histories import ClusteredHistory
from export.order import Order
from export.run import WEEK_OLD_FILE, TrainingFailed, TrainSettings, save_weights, write_json

Progress = Callable[[int, int, float], None]  # steps done, steps in all, recent loss

SLOW = 0.1  # of the learning rate, for a model's slow parts
LAST_RATE = 0.05  # of the first learning rate, at the end
CURVE_POINTS = 200  # of the losses that are noted
LAST_CHECKPOINT, NOTE_FILE = "last.ckpt", "note.json"


class Module(lightning.LightningModule):  # type: ignore[misc]
    """The training step, and what a checkpoint holds beside Lightning's own."""

    def __init__(self, batcher: Batcher, order: Order, settings: TrainSettings, folder: Path) -> None:
        """`folder`: for checkpoints, for the weights before the last block, and for what is noted at the end."""
        super().__init__()
        self.automatic_optimization = False
        self.model, self.batcher, self.order, self.settings, self.folder = batcher.model, batcher, order, settings, folder
        self.losses: list[float] = []
        self.note: dict[str, Any] = {"seconds": 0.0, "resumed": 0, "kept_step": len(order)}
        self.started = time.monotonic()

    def train_dataloader(self) -> Order:
        self.order.process = self.global_rank
        return self.order

    def configure_optimizers(self) -> Any:
        settings = self.settings
        tables = list(self.model.items.parameters())
        others = {name: p for name, p in self.model.named_parameters() if not name.startswith("items.")}
        groups: list[dict[str, Any]] = [
            {"params": [p for name, p in others.items() if (name.split(".")[0] in self.model.slow) == slow], "lr": rate}
            for slow, rate in ((False, settings.learning_rate), (True, SLOW * settings.learning_rate))
        ]
        optimisers = [
            torch.optim.SparseAdam(tables, lr=settings.item_learning_rate),
            torch.optim.Adam([group for group in groups if group["params"]]),
        ]

        def falling(step: int) -> float:
            return max(1 - step / len(self.order), LAST_RATE)

        return optimisers, [torch.optim.lr_scheduler.LambdaLR(optimiser, falling) for optimiser in optimisers]

    def on_train_start(self) -> None:
        self.started = time.monotonic()

    def training_step(self, requests: list[int], index: int) -> None:
        if self.order.begins_block(index) and self.batcher.search_type.clustered:
            self.batcher.refresh()
        if index == self.order.week_old and self.trainer.is_global_zero:
            save_weights(self.model.state_dict(), self.folder / WEEK_OLD_FILE)
        self.batcher.random = np.random.default_rng([self.settings.seed, index, self.global_rank])
        torch.manual_seed(int(self.batcher.random.integers(1 << 62)))
        loss = self.batcher.loss(requests)
        value = float(self.trainer.strategy.reduce(loss.detach().clone(), reduce_op="mean"))  # over all processes
        optimisers: Any = self.optimizers()
        if not math.isfinite(value):
            rates = " and ".join(f"{optimiser.param_groups[0]['lr']:.2g}" for optimiser in optimisers)
            raise TrainingFailed(
                f"loss is {value} at step {index} of {len(self.order)}, learning rates {rates} (items, the rest): "
                "lower them, or look for outliers in the data"
            )
        self.losses.append(value)
        for optimiser in optimisers:
            optimiser.zero_grad()
        self.manual_backward(loss)
        for optimiser, schedule in zip(optimisers, self.lr_schedulers(), strict=True):
            optimiser.step()
            schedule.step()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["losses"], checkpoint["note"] = self.losses, self.note | {"seconds": self._seconds()}
        if isinstance(self.batcher.histories, ClusteredHistory):  # made from vectors of an earlier step
            checkpoint["clustered_by"] = torch.from_numpy(self.batcher.histories.item_vector)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.losses, self.note = checkpoint["losses"], checkpoint["note"]
        self.note["resumed"] += 1
        if "clustered_by" in checkpoint:
            self.batcher.refresh()  # there are tables then, and the next step makes no clusters of its own
            vectors = checkpoint["clustered_by"].numpy()
            self.batcher.histories = ClusteredHistory(self.batcher.dataset, vectors, self.batcher.newest)

    def on_train_end(self) -> None:
        """Note what the caller must know: it may be another process."""
        if not self.trainer.is_global_zero:
            return
        points = np.array_split(np.array(self.losses), min(CURVE_POINTS, len(self.losses)))
        ends = np.cumsum([len(point) for point in points])
        curve = [[int(end), round(float(point.mean()), 5)] for end, point in zip(ends, points, strict=True)]
        note = {"steps": len(self.losses), "loss": float(np.mean(self.losses[-200:])), "losses": curve}
        write_json(self.folder / NOTE_FILE, {**self.note, **note, "seconds": round(self._seconds(), 1)})

    def _seconds(self) -> float:
        return float(self.note["seconds"]) + time.monotonic() - self.started


class Report(Callback):  # type: ignore[misc]
    """Tells the caller how far training is."""

    def __init__(self, tell: Callable[[tuple[int, int, float]], None]) -> None:
        self.tell = tell

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        _quiet()  # this is a new process

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        if trainer.is_global_zero:
            self.tell((index + 1, len(module.order), float(np.mean(module.losses[-50:]))))


class Interrupted(TrainingFailed):
    """Training was told to end, or a process of several was killed; the checkpoint is good."""


def fit(module: Module, callbacks: list[Callback], progress: Progress, checkpoint: Path | None) -> None:
    """Train to the end, leaving a checkpoint every so many steps.

    Each of several devices is a process of its own, started here and gone when this returns; gradients,
    sparse ones too, are averaged by gloo.

    Args:
        progress: called in the caller's process.
        checkpoint: where to go on; None = at the beginning.

    Raises:
        TrainingFailed: the loss is not finite.
        Interrupted: training was terminated, or a process of several was killed.
    """
    settings = module.settings
    several = DDPStrategy(start_method="spawn", process_group_backend="gloo")
    with warnings.catch_warnings(), _telling(progress, settings.devices) as tell:
        _quiet()
        kept = ModelCheckpoint(
            module.folder, Path(LAST_CHECKPOINT).stem, enable_version_counter=False,
            every_n_train_steps=2 * settings.checkpoint_every,  # Lightning counts the steps of both optimisers
        )  # fmt: skip
        trainer = lightning.Trainer(
            accelerator="cpu", devices=settings.devices, strategy="auto" if settings.devices == 1 else several,
            max_epochs=1, logger=False, enable_progress_bar=False, enable_model_summary=False,
            callbacks=[Report(tell), *callbacks, kept],
        )  # fmt: skip
        try:
            trainer.fit(module, ckpt_path=checkpoint, weights_only=True)
        except ProcessRaisedException as error:  # the last line of its text is the process's own exception
            kind, _, text = str(error).strip().splitlines()[-1].partition(": ")
            if kind.endswith(TrainingFailed.__name__):
                raise TrainingFailed(text) from None
            raise
        except (ProcessExitedException, SIGTERMException) as error:
            raise Interrupted(f"{str(error) or 'terminated'}: the same command goes on from the last checkpoint") from None


@contextmanager
def _telling(progress: Progress, devices: int) -> Iterator[Callable[[tuple[int, int, float]], None]]:
    """What calls `progress` in this process, from whichever trains."""
    if devices == 1:
        yield lambda report: progress(*report)
        return
    queue = get_context("spawn").SimpleQueue()

    def read() -> None:
        while (report := queue.get()) is not None:
            progress(*report)

    reader = Thread(target=read)
    reader.start()
    try:
        yield queue.put
    finally:
        queue.put(None)
        reader.join()


def _quiet() -> None:
    """Leave out what Lightning and torch have to say of choices that are ours."""
    for name in ("lightning.pytorch", "lightning.fabric", "torch.multiprocessing.spawn"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for message in (
        ".*isinstance.treespec, LeafSpec.*",
        ".*no pre-optimization state was saved.*",  # manual optimisation: a checkpoint is what a step left
        ".*Checkpoint directory .* exists and is not empty.*",
    ):
        warnings.filterwarnings("ignore", message=f"(?s){message}")
