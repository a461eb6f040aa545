"""assist2017: 1,705 students, each of whose answers is an impression with a real outcome; education, not clicks.

The ASSISTments Data Mining Competition 2017, in an order without a clock: `step` counts a student's
answers, and ts = step x 3600. The label says whether the answer was correct. Every answer, wrong ones
too, is a behaviour whose cross feature `correct` is that outcome: the past's outcomes are what the next
one is told from. One answer at one step is one request of one impression, and its history ends before
that step, so no request sees its own outcome. A wrong answer is often followed by the same problem
again: read every figure beside the item-difficulty baseline (export/baselines.py).

The split is the contracted one, at the 80 % and 90 % quantile of ts. Since a step is no shared clock this
splits by age, not by date: the first 698 answers of everybody train, and what is tested is the later
life, from the 973rd answer on, of the 248 students who answered so often. Every test history is long, no
test student is new, and another student's training rows may be of a later day.

A problem may be filed under several skills (a fifth of them are, with half the answers). An item has one
category: the skill it had most often in training, which 89 % of all answers have; one first shown later
has its newest row's.

The file cannot be fetched by a stranger's machine; it is looked for under $LONGTRAIL_SHARED.
"""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from export.data import folder
from export.data.source import DataInvalid, Source

NAME = "assist2017"
BESIDE_THE_CHECKOUT = Path(__file__).parents[3] / "shared"


def raw_folder() -> Path:
    """Where the raw file is looked for: $LONGTRAIL_SHARED/data/assist2017, by default ../shared beside the checkout."""
    return Path(os.environ.get("LONGTRAIL_SHARED") or BESIDE_THE_CHECKOUT) / "data" / NAME


def read() -> Source:
    """Read and check interactions.parquet: user_id, step, item_id, category (the skill), label (1 = correct).

    Raises:
        DataInvalid: no such folder, or a file that breaks this form.
    Cost: about 1 s.
    """
    raw = raw_folder()
    if not raw.is_dir():
        raise DataInvalid(f"{raw}: no such folder; LONGTRAIL_SHARED names the folder whose data/{NAME} holds {NAME}")
    source = folder.read(raw, NAME)
    if not source.labelled:
        raise DataInvalid(f"{raw / 'interactions.parquet'}: column label is missing")
    answers = source.interactions
    return replace(
        source,
        interactions=answers.assign(correct=answers["label"].astype(np.float64)),
        items=_commonest_skills(answers[answers["ts"] < source.train_end_ts]),
        keeps_negative_behaviours=True,
        origin={
            "source": "ASSISTments Data Mining Competition 2017, through github.com/arghosh/AKT",
            "licence": "repository MIT, data public for research",
        },
    )


def _commonest_skills(answers: pd.DataFrame) -> pd.DataFrame:
    """The items of these answers, each with the category that most of them have; of two as common, the smaller."""
    counts = answers.groupby(["item_id", "category"]).size().reset_index(name="rows")
    best_first = counts.sort_values(["rows", "category"], ascending=[False, True])
    return best_first.drop_duplicates("item_id")[["item_id", "category"]].reset_index(drop=True)
