"""Baselines: counted by hand, counted again the slow way, and against the anchors of the benchmark."""

import dataclasses

import numpy as np
import pytest

from export.baselines import LENGTHS, STRENGTH, baseline_scores, baselines, counts, item_difficulty
from export.data.dataset import Dataset
from export.data.prepare import prepare
from export.data.requests import Requests
from export.train import TrainingFailed
from store.types import FIRST_KNOWN, UNKNOWN
from tests.export.data import own


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    return prepare(str(own.write(folder / "shop")), into=folder / "data")


def shown(row: list[int], label: list[int]) -> Requests:
    """One request of one user."""
    return Requests(
        np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros((1, 0), np.int32), np.array([0, len(row)]),
        np.array(row, np.int32), np.array(label, np.float32),
    )  # fmt: skip


def test_the_difficulty_of_an_item_is_its_smoothed_mean_outcome():
    train = shown([2, 2, 2, 3], [1, 1, 0, 0])
    two, three = (2 + STRENGTH / 2) / (3 + STRENGTH), (STRENGTH / 2) / (1 + STRENGTH)
    assert item_difficulty(train, shown([3, 2, 3], [0, 0, 0]), 5) == pytest.approx([three, two, three])


def test_an_item_never_shown_in_training_has_the_mean_of_all():
    assert item_difficulty(shown([2, 2, 3, 3], [1, 0, 0, 0]), shown([4, UNKNOWN], [0, 0]), 5) == pytest.approx([0.25, 0.25])


def slow_counts(dataset: Dataset, user: int, at: int, row: int, last: int | None) -> list[int]:
    """The same counts for one impression, from its history."""
    history = dataset.history(user, at).row
    history = history if last is None else history[max(len(history) - last, 0) :]
    same = [int((history == row).sum()) if row >= FIRST_KNOWN else 0]
    for value in dataset.items.value[:, 1:].T:
        same.append(int((value[history] == value[row]).sum()) if value[row] >= FIRST_KNOWN else 0)
    popularity = int(((dataset.row == row) & (dataset.ts < dataset.facts["train_end_ts"])).sum())
    return [popularity, *same]


@pytest.mark.parametrize("name", LENGTHS)
def test_counts_are_those_of_a_walk_through_each_history(shop, name):
    requests = shop.requests["test"]
    requests = dataclasses.replace(requests, row=requests.row.copy())
    requests.row[::17] = UNKNOWN
    expected = [
        slow_counts(shop, int(requests.user[r]), int(requests.at[r]), int(row), LENGTHS[name])
        for r in range(len(requests))
        for row in requests.items(r)[0]
    ]
    found = np.expm1(counts(shop, requests)[name])
    assert np.allclose(found, expected)
    assert found[:, 2:].max() <= (LENGTHS[name] or np.inf)


def test_the_walk_meets_long_histories_unknown_values_and_behaviours_at_the_very_time(shop):
    """Without them the comparison above would prove little."""
    requests = shop.requests["test"]
    before = [len(shop.history(int(u), int(t))) for u, t in zip(requests.user, requests.at, strict=True)]
    with_own = [len(shop.history(int(u), int(t) + 1)) for u, t in zip(requests.user, requests.at, strict=True)]
    assert max(before) > LENGTHS["50"]
    assert (shop.items.value[requests.row][:, 2] == UNKNOWN).any()
    assert all(own > past for own, past in zip(with_own, before, strict=True))


def test_a_user_without_a_past_has_popularity_alone(shop):
    requests = shop.requests["train"].select(np.arange(40))
    requests = dataclasses.replace(requests, at=np.zeros_like(requests.at))
    for table in counts(shop, requests).values():
        assert (table[:, 1:] == 0).all()
        assert (table[:, 0] > 0).all()


def test_counts_find_what_users_return_to_and_the_item_alone_does_not(shop):
    figures = baselines(shop)
    assert list(figures) == ["item_difficulty", "counting_50", "counting_200", "counting_1000", "counting_all"]
    assert figures["counting_all"].auc > 0.8 > 0.65 > figures["item_difficulty"].auc
    assert {f.impressions for f in figures.values()} == {len(shop.requests["test"].row)}


def test_scores_are_probabilities_of_each_test_impression(shop):
    for score in baseline_scores(shop).values():
        assert (score.dtype, score.shape) == (np.float32, shop.requests["test"].label.shape)
        assert ((score > 0) & (score < 1)).all()


def test_outcomes_of_the_test_are_not_read(shop):
    test = shop.requests["test"]
    turned = dataclasses.replace(shop, requests=shop.requests | {"test": dataclasses.replace(test, label=1 - test.label)})
    for honest, blind in zip(baseline_scores(shop).values(), baseline_scores(turned).values(), strict=True):
        assert (honest == blind).all()


def test_one_label_alone_is_an_error(shop):
    train = shop.requests["train"]
    only = dataclasses.replace(shop, requests=shop.requests | {"train": dataclasses.replace(train, label=train.label * 0)})
    with pytest.raises(TrainingFailed, match="both labels are needed"):
        baselines(only)


def test_the_anchors_of_the_benchmark_are_met(tmp_path):
    """A regression on item, type, category and department alone, made apart from this code, gave these AUC."""
    figures = baselines(prepare("complete_journey", into=tmp_path))
    anchors = {"counting_50": 0.671, "counting_200": 0.753, "counting_1000": 0.782, "counting_all": 0.781}
    assert {name: figures[name].auc for name in anchors} == pytest.approx(anchors, abs=0.01)
