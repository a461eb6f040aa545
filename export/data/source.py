"""The one form in which every data set enters: two tables and the times at which they are split."""

from dataclasses import dataclass, field

import pandas as pd

RESERVED = {"user_id", "item_id", "category", "ts", "step", "label"}  # columns that are no cross features


class DataInvalid(ValueError):
    """Input that breaks the contracted form. The text names file, column and row."""


@dataclass(frozen=True)
class Source:
    """A data set as its reader gives it.

    `interactions`: user_id, item_id, category, ts (int64 seconds), optionally label (0/1) and
    context_<name>; every further numeric column is a cross feature. `items`: item_id, category and
    categorical columns, the inherent features. Training rows have ts < validation_ts, validation
    rows ts < test_ts. `test`, where given, holds the fixed test impressions (user_id, item_id, ts,
    label); otherwise they are made from the rows from test_ts on.
    """

    name: str
    interactions: pd.DataFrame
    items: pd.DataFrame | None
    validation_ts: int
    test_ts: int
    train_until_test: bool = False  # validation weeks are trained on too: they were for tuning only
    test: pd.DataFrame | None = None
    time_from_steps: bool = False
    keeps_negative_behaviours: bool = False  # rows with label 0 are behaviours as well
    context: tuple[str, ...] = ("hour", "weekday")  # clock context; context_<name> columns come beside it
    origin: dict[str, str] = field(default_factory=dict)  # where it came from, for the manifest

    @property
    def labelled(self) -> bool:
        """Whether the impressions are real; otherwise every row is a positive and negatives are drawn."""
        return "label" in self.interactions.columns

    @property
    def train_end_ts(self) -> int:
        """Training rows have ts below this."""
        return self.test_ts if self.train_until_test else self.validation_ts
