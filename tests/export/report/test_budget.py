"""The tables of training budgets."""

import pytest
from typer.main import get_command

from export.__main__ import app
from export.data.prepare import READERS
from export.models import list_models
from export.report.budget import ALL, OWN, OWN_SAMPLES, SAMPLES, budget_of, options, sample_of
from export.run import TrainSettings


def test_the_tables_name_data_sets_and_models_that_there_are():
    assert {*ALL, *OWN, *SAMPLES} <= set(READERS)
    assert {*OWN_SAMPLES, *(model for models in OWN.values() for model in models)} <= set(list_models())


def test_a_models_own_goes_before_its_data_sets_and_what_is_asked_for_before_both(monkeypatch):
    monkeypatch.setitem(ALL, "shop", TrainSettings(days=9, epochs=3))
    monkeypatch.setitem(OWN, "shop", {"din": {"days": 5}})
    assert budget_of("shop", "din") == TrainSettings(days=5, epochs=3)
    assert budget_of("shop", "eta") == TrainSettings(days=9, epochs=3)
    assert budget_of("shop", "din", days=4) == TrainSettings(days=4, epochs=3)
    assert budget_of("shop", "din", epochs=1) == TrainSettings(days=5, epochs=1)
    assert budget_of("another", "din") == TrainSettings()


def test_a_slow_model_is_evaluated_on_no_more_than_its_own_sample(monkeypatch):
    monkeypatch.setitem(SAMPLES, "shop", 90)
    monkeypatch.setitem(OWN_SAMPLES, "din", 50)
    assert [sample_of("shop", model, None) for model in ("din", "eta")] == [50, 90]
    assert [sample_of("shop", model, 40) for model in ("din", "eta")] == [40, 40]
    assert [sample_of("shop", model, 200) for model in ("din", "eta")] == [50, 200]
    assert [sample_of("another", model, None) for model in ("din", "eta")] == [50, None]


@pytest.mark.parametrize("data", READERS)
@pytest.mark.parametrize("model", list_models())
def test_a_budget_is_what_its_options_ask_for(data, model):
    """Whatever a budget sets must reach the command line, or the run would never match it."""
    settings = budget_of(data, model, epochs=2)
    read = get_command(app).commands["train"].make_context("train", [model, *options(settings)]).params
    assert all(read.get(name, getattr(TrainSettings(), name)) == value for name, value in settings.__dict__.items())
