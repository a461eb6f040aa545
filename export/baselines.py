"""What a model has to beat: baselines without a vector, scored on the test impressions.

`item_difficulty` knows no user: the smoothed mean outcome of each item among the training impressions.
Where negatives are drawn by popularity (complete_journey) popularity itself tells nothing, by
construction; the mean is then an item's purchases to how often it was drawn: what the recipe left of it.

`counting_<L>` knows the history by counts alone: a logistic regression on the item's popularity and on
how often the same item, the same category and the same value of each further inherent feature stand
among the last L behaviours. A behaviour counts as one whatever its cross features and its age: on
assist2017 right and wrong answers count alike.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from export.data.dataset import Dataset
from export.data.requests import Requests
from export.metrics import Figures, figures
from export.train import TrainingFailed, training_requests
from store.types import FIRST_KNOWN, Floats

STRENGTH = 20.0  # impressions at the global mean that every item is given beside its own
DAYS = 42  # the last days before the training end, whose impressions the regression learns from
LENGTHS = {"50": 50, "200": 200, "1000": 1000, "all": None}  # L, how many behaviours are counted


def baselines(dataset: Dataset) -> dict[str, Figures]:
    """Figures of each baseline on the test impressions, by name: item_difficulty, counting_50, .. counting_all."""
    test = dataset.requests["test"]
    user = np.repeat(test.user, np.diff(test.start))
    return {name: figures(user, test.label, score) for name, score in baseline_scores(dataset).items()}


def baseline_scores(dataset: Dataset) -> dict[str, Floats]:
    """Probabilities float32 [test impressions] of each baseline, in the order of the test requests.

    Raises:
        TrainingFailed: the last days of training have no impression, or only one label.
    Cost: 5 s and 0.9 GB for 0.4 M impressions over 1.5 M behaviours with six item features, on one core.
    """
    train, test = training_requests(dataset, DAYS), dataset.requests["test"]
    if not len(train) or not 0 < train.label.mean() < 1:
        last = f"{len(train)} training requests in the last {DAYS} days"
        raise TrainingFailed(f"{dataset.schema.data}: {last}, both labels are needed")
    scores = {"item_difficulty": item_difficulty(dataset.requests["train"], test, dataset.registry.item_rows)}
    known, asked = counts(dataset, train), counts(dataset, test)
    for name in LENGTHS:
        regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        regression.fit(known[name], train.label)
        scores[f"counting_{name}"] = regression.predict_proba(asked[name])[:, 1].astype(np.float32)
    return scores


def item_difficulty(train: Requests, test: Requests, item_rows: int) -> Floats:
    """(positives + STRENGTH x mean) / (impressions + STRENGTH) of each item in `train`: float32 [test impressions].

    An item that was never shown in training has the mean of all training impressions.
    """
    shown = np.bincount(train.row, minlength=item_rows)
    positive = np.bincount(train.row, weights=train.label, minlength=item_rows)
    rate: NDArray[np.float64] = (positive + STRENGTH * train.label.mean(dtype=np.float64)) / (shown + STRENGTH)
    return rate[test.row].astype(np.float32)


def counts(dataset: Dataset, requests: Requests) -> dict[str, NDArray[np.float64]]:
    """log(1 + n) of what the regression counts, float64 [impressions, 1 + F] for each of LENGTHS.

    Column 0 is the item's behaviours in training, of all users; column 1 + f how many of the user's last L
    behaviours strictly before the impression have the item's value of feature f. Feature 0 is the item itself;
    a value that is unknown equals nothing, not even itself. The empty user has zeros there.

    Cost: one sort of all behaviours for each feature, then a binary search for each impression, feature and L.
    """
    training = dataset.row[dataset.ts < dataset.facts["train_end_ts"]]
    popularity = np.bincount(training, minlength=dataset.registry.item_rows)
    item = np.arange(dataset.registry.item_rows)
    values = [item, *dataset.items.value[:, 1:].T.astype(np.int64)]  # [N] each

    # positions among the behaviours of all users: those of a user are one slice, so a slice says whose they are
    sizes = np.diff(requests.start)
    end = np.repeat(_history_end(dataset, requests), sizes)  # [impressions]
    oldest = np.repeat(dataset.user_start[requests.user], sizes)
    first = {name: oldest if last is None else np.maximum(end - last, oldest) for name, last in LENGTHS.items()}
    out = {name: np.empty((len(requests.row), 1 + len(values))) for name in LENGTHS}
    for name in LENGTHS:
        out[name][:, 0] = popularity[requests.row]
    for column, value in enumerate(values, start=1):
        wanted = value[requests.row]
        places, base = _places(value[dataset.row]), wanted * len(dataset.row)
        until_end = np.searchsorted(places, base + end)
        for name in LENGTHS:
            found = until_end - np.searchsorted(places, base + first[name])
            out[name][:, column] = np.where(wanted >= FIRST_KNOWN, found, 0)
    return {name: np.log1p(table, out=table) for name, table in out.items()}


def _history_end(dataset: Dataset, requests: Requests) -> NDArray[np.int64]:
    """Where each request's history ends among the behaviours of all users: int64 [requests]; `Dataset.history` at once."""
    user = np.repeat(np.arange(len(dataset.user_ids)), np.diff(dataset.user_start))
    return np.searchsorted(user << 32 | dataset.ts, requests.user << 32 | requests.at, side="left")  # a ts has 32 bits


def _places(value: NDArray[np.int64]) -> NDArray[np.int64]:
    """value x n + position of each of n behaviours, ascending: a value's behaviours in a slice are one search apart."""
    return np.sort(value * len(value) + np.arange(len(value)))
