"""Evaluation while training, early stopping, the best weights."""

from dataclasses import replace

import pytest
import torch

import export.validation
from export.run import TrainingFailed, TrainSettings
from export.train import train

SETTINGS = TrainSettings(epochs=2, days=20, requests_a_batch=128, patience=2, evaluate_every=2, evaluated_requests=20)
STEPS = 10


@pytest.fixture
def scripted(monkeypatch):
    """AUCs in the order given, and the weights that each was measured on."""
    weights = []

    def of(*aucs):
        def score(dataset, requests, model):
            weights.append({name: value.clone() for name, value in model.state_dict().items()})
            return requests.label

        monkeypatch.setattr(export.validation, "score_requests", score)
        monkeypatch.setattr(export.validation, "roc_auc_score", lambda label, score: aucs[len(weights) - 1])
        return weights

    return of


def equal(weights, others) -> bool:
    return all(torch.equal(value, others[name]) for name, value in weights.items())


def test_training_stops_when_it_gets_no_better_and_keeps_the_best_weights(shop, tmp_path, scripted):
    weights = scripted(0.6, 0.7, 0.65, 0.7, 0.9)
    run = train(shop, "din", SETTINGS, runs=tmp_path)
    assert run.facts["history"] == [{"step": 2 * (i + 1), "auc": auc} for i, auc in enumerate((0.6, 0.7, 0.65, 0.7))]
    assert (run.facts["steps"], run.facts["kept_step"]) == (8, 4)
    assert equal(run.model.state_dict(), weights[1])
    assert not equal(run.model.state_dict(), weights[3])
    assert equal(torch.load(run.folder / "weights.pt"), weights[1])


def test_without_patience_the_last_weights_are_kept_and_the_history_noted(shop, tmp_path, scripted):
    weights = scripted(0.9, 0.8, 0.7, 0.6)
    run = train(shop, "din", replace(SETTINGS, patience=0, evaluate_every=3), runs=tmp_path)
    assert [point["step"] for point in run.facts["history"]] == [3, 6, 9, 10]  # and after the last step
    assert equal(run.model.state_dict(), weights[3])


def test_patience_evaluates_each_epoch_by_default(shop, tmp_path, scripted):
    scripted(0.6, 0.7)
    run = train(shop, "din", replace(SETTINGS, evaluate_every=None), runs=tmp_path)
    assert [point["step"] for point in run.facts["history"]] == [5, 10]


def test_weights_from_before_the_last_week_have_none_that_are_a_week_older(shop, tmp_path, scripted):
    scripted(0.7, 0.6, 0.5, 0.4)
    run = train(shop, "din", SETTINGS, runs=tmp_path)
    assert run.facts["weights_week_old"] is None
    assert not (run.folder / "weights_week_old.pt").exists()


class PulledPlug(Exception):
    pass


def pull_the_plug(done, *_):
    if done == 6:  # after two evaluations
        raise PulledPlug


def test_an_interrupted_run_is_no_more_patient(shop, tmp_path, scripted):
    settings = replace(SETTINGS, checkpoint_every=1)
    weights = scripted(0.7, 0.6, 0.65, 0.9)
    with pytest.raises(PulledPlug):
        train(shop, "din", settings, pull_the_plug, runs=tmp_path)
    run = train(shop, "din", settings, runs=tmp_path)
    assert (run.facts["steps"], run.facts["kept_step"], len(weights)) == (6, 2, 3)
    assert equal(run.model.state_dict(), weights[0])


def test_an_interrupted_run_knows_its_evaluations(shop, tmp_path):
    settings = replace(SETTINGS, checkpoint_every=1, patience=10)
    whole = train(shop, "eta", settings, runs=tmp_path / "whole")
    with pytest.raises(PulledPlug):
        train(shop, "eta", settings, pull_the_plug, runs=tmp_path)
    run = train(shop, "eta", settings, runs=tmp_path)
    assert run.facts["resumed"] == 1
    assert [run.facts[key] for key in ("history", "kept_step")] == [whole.facts[key] for key in ("history", "kept_step")]
    assert equal(run.model.state_dict(), whole.model.state_dict())
    assert len(run.facts["history"]) == 5


def test_evaluating_leaves_the_training_as_it_is(shop, tmp_path):
    seen = train(shop, "din", replace(SETTINGS, patience=0), runs=tmp_path / "seen")
    blind = train(shop, "din", replace(SETTINGS, patience=0, evaluate_every=None), runs=tmp_path / "blind")
    assert equal(seen.model.state_dict(), blind.model.state_dict())
    assert 0 < seen.facts["history"][0]["auc"] < 1
    assert "history" not in blind.facts


def test_a_split_that_is_trained_on_stops_nothing(shop, tmp_path):
    all_of_it = replace(shop, facts=shop.facts | {"train_end_ts": shop.facts["validation_ts"] + 1})
    with pytest.raises(TrainingFailed, match=f"goes on to {all_of_it.facts['train_end_ts']}, the validation split begins at"):
        train(all_of_it, "din", SETTINGS, runs=tmp_path)
    assert not list(tmp_path.iterdir())
    train(all_of_it, "din", replace(SETTINGS, days=3, tune=True), runs=tmp_path)


def test_weights_that_score_no_number_end_training(shop, tmp_path, monkeypatch):
    monkeypatch.setattr(export.validation, "score_requests", lambda dataset, requests, model: requests.label * float("nan"))
    with pytest.raises(TrainingFailed, match="after step 2"):
        train(shop, "din", SETTINGS, runs=tmp_path)
