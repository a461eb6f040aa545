"""What the sections show of a content."""

import json

import pytest

from export.report.sections import sections


@pytest.fixture
def content(made):
    return json.loads((made / "report.json").read_text())


def table_of(content, title, number=0):
    return next(section for section in sections(content) if section.title == title).tables[number]


def test_nothing_found_is_a_figure_and_an_undefined_figure_is_none(content):
    content["models"]["sim_hard"]["consistency"]["found"]["search"]["of_100"] = 0.0
    content["models"]["sim_hard"]["auc"] = None
    (row,) = (row for row in table_of(content, "Search consistency").rows if row[0] == "sim_hard")
    assert row[3:8] == ["0.0", "-", "-", "-", "-"]


def test_what_no_model_has_is_no_section(content):
    titles = [section.title for section in sections(content)]
    content["public"] = {}
    for model in content["models"].values():
        model.pop("newest", None)
        model["consistency"] = None
    left = [section.title for section in sections(content)]
    assert left == ["Models", "Calibration", "Training budget"]
    assert set(titles) - set(left) == {
        "AUC against the length of the history",
        "Search consistency",
        "Beside a public implementation",
    }


def test_searches_with_old_tables_have_a_plot_of_their_own(content):
    plots = next(section for section in sections(content) if section.title == "Search consistency").plots
    fresh, old = plots.values()
    assert (">sim_hard<" in fresh, ">twin<" in fresh, ">twin, merged<" in fresh) == (True, True, False)
    assert (">sim_hard<" in old, ">twin<" in old, ">twin, merged<" in old) == (False, True, True)


def test_the_counting_regression_stands_beside_the_models_at_the_same_lengths(content):
    rows = table_of(content, "AUC against the length of the history").rows
    baselines = content["baselines"]
    assert rows[-1] == ["counting", *(f"{baselines[f'counting_{cut}']['auc']:.4f}" for cut in ("50", "200", "1000", "all")), "-"]


def test_the_budget_names_days_epochs_and_lengths(content):
    table = table_of(content, "Training budget")
    rows = {row[0]: dict(zip(table.head, row, strict=True)) for row in table.rows}
    twin, trained = rows["twin"], content["models"]["twin"]["training"]
    assert (twin["days"], twin["epochs"], twin["K"], twin["L"]) == ("40", "1", "100", "all")
    assert twin["impressions"] == f"{trained['impressions']:,}"
