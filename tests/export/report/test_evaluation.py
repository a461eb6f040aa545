"""Figures of a model, kept part by part."""

import json

import pytest
import torch

from export.report import evaluation
from export.report.evaluation import EVALUATION_FILE, evaluate_fully, kept_evaluation
from export.run import WEEK_OLD_FILE, WEIGHTS_FILE, Run


@pytest.fixture
def run(made, shop):
    """A run that was evaluated on 40 requests."""
    return Run.open("shop", "twin", shop)


def test_every_part_is_there_for_a_model_that_searches(shop, run):
    parts = evaluate_fully(shop, run, 20, 5)
    assert list(parts) == ["fingerprint", "quality", "newest_50", "newest_200", "newest_1000", "whole_life", "consistency"]
    assert parts["quality"]["figures"] != parts["newest_50"]
    assert parts["quality"]["figures"]["impressions"] == parts["whole_life"]["impressions"]
    assert list(parts["consistency"]["found"]) == ["search", "merged", "search_old", "merged_old"]
    assert json.loads((run.folder / EVALUATION_FILE).read_text()) == parts == kept_evaluation("twin", shop, 20, 5)


def test_a_model_of_the_newest_list_has_its_quality_alone(made, shop):
    assert list(evaluate_fully(shop, Run.open("shop", "din", shop), 20, 5)) == ["fingerprint", "quality"]


def test_an_interrupted_evaluation_goes_on_with_the_next_part(shop, run, monkeypatch):
    calls = []
    original = evaluation.evaluate

    def twice(*arguments, **named):
        calls.append(named.get("newest"))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*arguments, **named)

    monkeypatch.setattr(evaluation, "evaluate", twice)
    with pytest.raises(KeyboardInterrupt):
        evaluate_fully(shop, run, 20, 5)
    assert kept_evaluation("twin", shop, 20, 5) is None
    evaluate_fully(shop, run, 20, 5)
    assert calls == [None, 50, 200, 200, 1000, None]


def test_kept_parts_are_of_these_weights_this_sample_and_this_data(shop, run, monkeypatch):
    evaluate_fully(shop, run, 20, 5)
    assert kept_evaluation("twin", shop, 21, 5) is None
    assert kept_evaluation("twin", shop, 20, 6) is None
    for name in (WEEK_OLD_FILE, WEIGHTS_FILE):
        path = run.folder / name
        before = path.read_bytes()
        path.write_bytes(before + b"\0")
        assert kept_evaluation("twin", shop, 20, 5) is None
        path.write_bytes(before)
    monkeypatch.setitem(shop.facts, "fingerprint", "other")
    assert kept_evaluation("twin", shop, 20, 5) is None


def test_trained_again_means_evaluated_again(shop, run):
    first = evaluate_fully(shop, run, 20, 5)
    weights = torch.load(run.folder / WEIGHTS_FILE, weights_only=True)
    torch.save({name: value * 0.5 if value.is_floating_point() else value for name, value in weights.items()},
               run.folder / WEIGHTS_FILE)  # fmt: skip
    second = evaluate_fully(shop, Run.open("shop", "twin", shop), 20, 5)
    assert all(second[name] != part for name, part in first.items() if name != "consistency")


def test_figures_that_are_no_number_are_null(shop, run):
    kept = json.loads(json.dumps(evaluate_fully(shop, run, 20, 5), allow_nan=False))
    assert kept["quality"]["heavy"]["auc"] is None  # no user has a thousand behaviours
