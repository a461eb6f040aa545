"""Evaluation while training: AUC on a sample of the validation split, early stopping, the best weights."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from sklearn.metrics import roc_auc_score

from export.data.dataset import Dataset
from export.evaluate import sample_requests, score_requests
from export.models.contract import CTRModel
from export.run import TrainingFailed, TrainSettings, save_weights

BEST_FILE = "best.pt"


class Validation(Callback):  # type: ignore[misc]
    """Evaluates every so many steps and after the last; with patience it ends training that gets no better.

    Its state is part of Lightning's checkpoints. One process evaluates and tells the others.
    """

    def __init__(self, dataset: Dataset, settings: TrainSettings, trained_until: int, folder: Path) -> None:
        """`trained_until`: Unix seconds, the end of the training impressions; `folder`: where the best weights are kept.

        Raises:
            TrainingFailed: training reaches into the validation split, or the split has one label only.
        """
        begins = dataset.facts["validation_ts"]
        if trained_until > begins:
            raise TrainingFailed(
                f"{dataset.schema.data}: training goes on to {trained_until}, the validation split begins at {begins}: "
                "early stopping needs a split that is not trained on, add --tune"
            )
        self.requests, _ = sample_requests(dataset.requests["validation"], settings.evaluated_requests, "validation")
        if not len(self.requests) or not 0 < self.requests.label.mean() < 1:
            raise TrainingFailed(f"{dataset.schema.data}: {len(self.requests)} validation requests, both labels are needed")
        self.dataset, self.settings, self.best_file = dataset, settings, folder / BEST_FILE
        self.history: list[dict[str, float]] = []  # step (1 = after the first) and auc
        self.best_step, self.best_auc, self.waited = 0, float("-inf"), 0

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        step = index + 1
        every = self.settings.evaluate_every or module.order.steps_an_epoch
        if step % every and step != len(module.order):
            return
        auc = trainer.strategy.broadcast(self._auc(module.model, step) if trainer.is_global_zero else 0.0)
        self.history.append({"step": step, "auc": auc})
        self.waited += 1
        if auc > self.best_auc:
            self.best_step, self.best_auc, self.waited = step, auc, 0
            if trainer.is_global_zero and self.settings.patience:
                save_weights(module.model.state_dict(), self.best_file)
        if self.settings.patience and self.waited >= self.settings.patience:
            trainer.should_stop = True

    def on_train_end(self, trainer: Any, module: Any) -> None:
        module.note["history"] = self.history
        if self.settings.patience:
            module.model.load_state_dict(torch.load(self.best_file, weights_only=True))
            module.note["kept_step"] = self.best_step

    def _auc(self, model: CTRModel, step: int) -> float:
        scores = score_requests(self.dataset, self.requests, model)
        model.train()
        if not np.isfinite(scores).all():
            raise TrainingFailed(f"scores are not finite after step {step}: lower the learning rates")
        return float(roc_auc_score(self.requests.label, scores))

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("history", "best_step", "best_auc", "waited")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, value in state_dict.items():
            setattr(self, name, value)
