"""assist2017: every answer is an impression and a behaviour, and no request sees its own outcome."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from export.data import assist2017
from export.data.dataset import SPLITS, Dataset
from export.data.prepare import prepare
from export.data.source import DataInvalid
from export.evaluate import evaluate, score_requests
from export.models import build
from export.train import data_shape

needs_the_file = pytest.mark.skipif(
    not assist2017.raw_folder().is_dir(), reason=f"{assist2017.raw_folder()} is absent; LONGTRAIL_SHARED names another place"
)
STEP_S = 3600  # as the contract says
LATER = 10**10  # after everything


def raw(seed: int = 0) -> pd.DataFrame:
    """Answers in the form and the types of the raw file: 12 students, 20 to 130 steps each, 15 problems."""
    random = np.random.default_rng(seed)
    lengths = np.arange(20, 140, 10)
    user, step = np.repeat(np.arange(12), lengths), np.concatenate([np.arange(n) for n in lengths])
    item = random.integers(0, 15, len(user))
    return pd.DataFrame(
        {
            "user_id": user.astype("int16"),
            "step": step.astype("int16"),
            "item_id": item.astype("int32"),
            "category": (item % 4 + 1).astype("int16"),
            "label": (random.random(len(user)) < 0.4).astype("int8"),
        }
    )


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """Prepare answers as if they were the shared file."""

    def prepare_answers(answers: pd.DataFrame) -> Dataset:
        monkeypatch.setenv("LONGTRAIL_SHARED", str(tmp_path))
        (tmp_path / "data/assist2017").mkdir(parents=True, exist_ok=True)
        answers.to_parquet(tmp_path / "data/assist2017/interactions.parquet")
        return prepare("assist2017", into=tmp_path / "prepared")

    return prepare_answers


def flipped(answers: pd.DataFrame, which: "pd.Series[bool]") -> pd.DataFrame:
    """The same answers with some outcomes turned round."""
    label = answers["label"].to_numpy()
    return answers.assign(label=np.where(which, 1 - label, label).astype("int8"))


def place_of(dataset: Dataset, user_id: int) -> int:
    return dataset.user_ids.index(str(user_id))


def test_a_step_is_an_hour_and_the_schema_says_that_there_is_no_clock(prepared):
    dataset = prepared(raw())
    assert dataset.schema.time_from_steps
    assert dataset.schema.context == []
    assert dataset.history(place_of(dataset, 11), LATER).ts.tolist() == [step * STEP_S for step in range(130)]


def test_every_answer_is_a_behaviour_and_correct_is_its_outcome(prepared):
    answers = raw()
    dataset = prepared(answers)
    assert [feature.name for feature in dataset.schema.cross_features] == ["correct"]
    wrong, right = dataset.schema.cross_features[0].encode(np.array([0.0, 1.0])).tolist()
    assert wrong != right
    for user_id, own in answers.groupby("user_id"):
        history = dataset.history(place_of(dataset, user_id), LATER)
        assert history.cross[:, 0].tolist() == [right if label else wrong for label in own["label"]]


def test_every_answer_is_a_request_of_one_impression_labelled_with_its_outcome(prepared):
    answers = raw().set_index(["user_id", "step"])
    dataset = prepared(raw())
    assert dataset.facts["calibrated"]
    assert sum(len(requests) for requests in dataset.requests.values()) == len(answers)
    for requests in dataset.requests.values():
        for r in range(len(requests)):
            row, label = requests.items(r)
            answer = answers.loc[(int(dataset.user_ids[requests.user[r]]), requests.at[r] // STEP_S)]
            assert [dataset.registry.ids[row[0] - 2], label.tolist()] == [str(answer["item_id"]), [answer["label"]]]


def test_the_split_is_at_the_quantiles_of_the_step(prepared):
    steps = raw()["step"]
    dataset = prepared(raw())
    low, high = (int(step) for step in np.quantile(steps, [0.8, 0.9], method="higher"))
    parts = [dataset.requests[split].at // STEP_S for split in ("train", "validation", "test")]
    assert [(part.min(), part.max()) for part in parts] == [(0, low - 1), (low, high - 1), (high, steps.max())]


def test_a_request_is_blind_to_its_own_outcome_and_sees_those_before_it(prepared):
    answers, turned_step = raw(), 120

    def read(answers: pd.DataFrame) -> tuple[np.ndarray, list[list[int]], np.ndarray]:
        dataset = prepared(answers)
        student, requests = place_of(dataset, 11), dataset.requests["test"]
        requests = requests.select(np.flatnonzero(requests.user == student))
        torch.manual_seed(0)
        scores = score_requests(dataset, requests, build("twin", data_shape(dataset)))  # it attends to cross features
        histories = [dataset.history(student, int(at)).cross[:, 0].tolist() for at in requests.at]
        return requests.at // STEP_S, histories, scores

    step, history, score = read(answers)
    _, turned_history, turned_score = read(flipped(answers, ((answers["user_id"] == 11) & (answers["step"] == turned_step))))
    assert step.min() < turned_step < step.max()
    assert [a != b for a, b in zip(history, turned_history, strict=True)] == (step > turned_step).tolist()
    assert (score[step <= turned_step] == turned_score[step <= turned_step]).all()
    assert (score[step > turned_step] != turned_score[step > turned_step]).any()


def test_outcomes_of_test_rows_reach_nothing_that_is_trained_on(prepared):
    answers = raw()
    split = int(np.quantile(answers["step"], 0.9, method="higher"))
    honest, turned = prepared(answers), prepared(flipped(answers, answers["step"] >= split))
    assert honest.facts["fingerprint"] != turned.facts["fingerprint"]
    assert honest.schema == turned.schema
    assert (honest.items.value == turned.items.value).all()
    assert (honest.requests["train"].label == turned.requests["train"].label).all()
    assert (honest.requests["test"].label == 1 - turned.requests["test"].label).all()


def test_an_evaluation_groups_the_single_impressions_by_student(prepared):
    dataset = prepared(raw())
    figures = evaluate(dataset, build("sim_hard", data_shape(dataset))).figures
    test = dataset.requests["test"]
    assert (figures.impressions, figures.users) == (len(test), len(np.unique(test.user)))
    assert 1 < figures.users < figures.impressions
    assert 0 < figures.gauc < 1


def category_name(dataset: Dataset, item_id: int) -> str:
    return dataset.registry.category_names[dataset.registry.category[dataset.registry.row_of[str(item_id)]] - 2]


def with_skills(training_share: float) -> pd.DataFrame:
    """Item 3 has skill 77 in this share of its training rows, 4 in the others, and 77 in all later rows."""
    answers = raw()
    training = (answers["step"] < np.quantile(answers["step"], 0.8, method="higher")).to_numpy()
    mine = (answers["item_id"] == 3).to_numpy()
    rows = np.flatnonzero(mine & training)
    answers.loc[rows[int(len(rows) * training_share) :], "category"] = 4
    answers.loc[rows[: int(len(rows) * training_share)], "category"] = 77
    answers.loc[mine & ~training, "category"] = 77
    return answers


def test_an_item_has_the_skill_it_had_most_often_in_training(prepared):
    assert category_name(prepared(with_skills(0.45)), 3) == "4"  # though 77 is the newest, and has more rows in all
    assert category_name(prepared(with_skills(0.55)), 3) == "77"


def test_of_two_skills_as_common_the_smaller_is_taken(prepared):
    answers = with_skills(0.5)
    assert ((answers["item_id"] == 3) & (answers["category"] == 4)).sum() == 17, "of 34 training rows"
    assert category_name(prepared(answers), 3) == "4"


def test_an_item_first_shown_after_training_has_its_skill_all_the_same(prepared):
    answers = raw()
    last = answers.index[-1]
    answers.loc[last, ["item_id", "category"]] = [999, 55]
    assert category_name(prepared(answers), 999) == "55"


def test_a_missing_folder_is_one_error_that_names_it_and_the_setting(tmp_path, monkeypatch):
    monkeypatch.setenv("LONGTRAIL_SHARED", str(tmp_path / "nowhere"))
    with pytest.raises(DataInvalid) as error:
        prepare("assist2017", into=tmp_path / "prepared")
    assert str(tmp_path / "nowhere/data/assist2017") in str(error.value)
    assert "LONGTRAIL_SHARED" in str(error.value)
    assert not (tmp_path / "prepared").exists()


@pytest.mark.parametrize("column", ["user_id", "item_id", "category", "label"])
def test_a_column_that_the_file_lacks_is_named(prepared, column):
    with pytest.raises(DataInvalid, match=rf"interactions.parquet: column {column} is missing"):
        prepared(raw().drop(columns=column))


def test_without_a_setting_the_folder_beside_the_checkout_is_meant(monkeypatch):
    monkeypatch.delenv("LONGTRAIL_SHARED", raising=False)
    root = Path(__file__).parents[3]
    assert assist2017.raw_folder() == root.parent / "shared/data/assist2017"


@needs_the_file
def test_the_real_file_is_what_is_said_of_it(tmp_path):
    dataset = prepare("assist2017", into=tmp_path)
    assert (dataset.facts["users"], dataset.facts["items"], dataset.facts["behaviours"]) == (1705, 3162, 941_502)
    requests = dataset.requests
    assert [len(requests[split]) for split in SPLITS] == [752_797, 94_497, 94_208]
    assert [int(requests[split].at.min()) // STEP_S for split in SPLITS] == [0, 698, 972]
    assert len(np.unique(requests["test"].user)) == 248
    right = dataset.schema.cross_features[0].encode(np.ones(1))[0]
    assert (dataset.cross[:, 0] == right).mean() == pytest.approx(0.3726, abs=1e-4)


@needs_the_file
def test_every_real_history_holds_all_steps_before_the_request_and_no_more(tmp_path):
    dataset = prepare("assist2017", into=tmp_path)
    for split in SPLITS:
        requests = dataset.requests[split]
        for r in np.random.default_rng(0).choice(len(requests), 200, replace=False):
            history = dataset.history(int(requests.user[r]), int(requests.at[r]))
            assert (history.ts == np.arange(requests.at[r] // STEP_S) * STEP_S).all()
