"""The report as a whole: one page that needs nothing else, and nothing done twice."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from export.report import content as content_module
from export.report.budget import SAMPLES
from export.report.report import report
from export.run import TrainingFailed
from tests.export.report.conftest import MODELS


class Page(HTMLParser):
    """What a page loads and holds."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.refers = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.refers += [value for name, value in attributes if name.split(":")[-1] in ("src", "href", "srcset", "data", "poster")]


def test_the_page_loads_nothing_and_runs_nothing(made):
    text = (made / "report.html").read_text()
    page = Page(text)
    assert not {"script", "link", "img", "iframe", "object", "embed"} & set(page.tags)
    assert all(reference.startswith("#") for reference in page.refers)
    assert "@import" not in text
    assert set(re.findall(r"url\((.)", text)) <= {"#"}
    assert set(re.findall(r"https?://[^\"' ]+", text)) == {"http://www.w3.org/1999/xlink", "http://www.w3.org/2000/svg"}


def test_every_plot_stands_in_the_page(made):
    page = Page((made / "report.html").read_text())
    assert page.tags.count("svg") == page.tags.count("figcaption") == 5  # quality, lengths, two of consistency, calibration


def test_the_json_holds_every_model_with_its_figures(made):
    content = json.loads((made / "report.json").read_text())
    assert (content["schema"], content["data"]) == (1, "shop")
    assert set(content["models"]) == set(MODELS)
    assert all(0 < model[figure] < 1 for model in content["models"].values() for figure in ("auc", "gauc", "log_loss"))
    assert set(content["models"]["twin"]["newest"]) == {"50", "200", "1000", "all"}
    assert set(content["models"]["twin"]["consistency"]["found"]) == {"search", "merged", "search_old", "merged_old"}
    assert not {"newest", "whole_life", "consistency"} & set(content["models"]["din"])
    assert set(content["baselines"]) == {"item_difficulty", "counting_50", "counting_200", "counting_1000", "counting_all"}
    assert content["sample"] == content["models"]["twin"].get("sample", content["sample"]) == "40 of 300 test requests, seed 7"
    assert content["machine"].endswith("cores")
    assert content["models"]["twin"]["training"]["days"] == 40


def test_baselines_are_judged_on_the_impressions_of_the_models(made):
    content = json.loads((made / "report.json").read_text())
    shown = {name: [content[kind][name][part] for part in ("impressions", "users")] for kind in ("models", "baselines")
             for name in content[kind]}  # fmt: skip
    assert len({tuple(counts) for counts in shown.values()}) == 1
    first_time = {content[kind][name]["first_time"]["impressions"] for kind in ("models", "baselines") for name in content[kind]}
    assert len(first_time) == 1


@pytest.mark.parametrize("suffix", ["html", "md"])
def test_both_pages_show_every_model_with_the_figures_of_the_json(made, suffix):
    content, text = json.loads((made / "report.json").read_text()), (made / f"report.{suffix}").read_text()
    for name, model in content["models"].items():
        assert name in text
        assert f"{model['auc']:.4f}" in text
    assert f"{content['models']['twin']['whole_life']['auc']:.4f}" in text
    assert f"{content['models']['twin']['consistency']['found']['merged']['of_100']:.1f}" in text


def test_markdown_tables_have_a_cell_for_every_head(made):
    lines = (made / "report.md").read_text().splitlines()
    heads = [i for i, line in enumerate(lines) if line.startswith(("| ---", "|---"))]
    assert len(heads) == 7
    for i in heads:
        width = lines[i - 1].count("|")
        rows = [line for line in lines[i : i + 20] if line.startswith("|")][: lines[i:].index("") if "" in lines[i:] else 20]
        assert rows[1:]
        assert {line.count("|") for line in rows} == {width}


def test_a_public_twin_stands_beside_ours_with_its_defects(made):
    content, text = json.loads((made / "report.json").read_text()), (made / "report.md").read_text()
    assert list(content["public"]) == ["din"]  # that of other data is left out
    assert f"| din | fuxictr 2.3.10 | 200 | 0.6543 | 0.6500 | 0.7123 | - | {content['models']['din']['auc']:.4f} |" in text
    assert "| din | padding <b>counts</b> |" in text
    assert "padding &lt;b&gt;counts&lt;/b&gt;" in (made / "report.html").read_text()


def test_a_second_report_trains_evaluates_and_fits_nothing(made, shop, asked, finished, monkeypatch):
    before = (made / "report.json").read_text()
    assert [command[:2] for command in finished[1]] == [[step, model] for model in MODELS for step in ("train", "evaluate")]

    def never(*_):
        raise AssertionError("done twice")

    monkeypatch.setattr(content_module, "baseline_scores", never)
    report(shop, MODELS, asked, run_jobs=never)
    assert (made / "report.json").read_text() == before


def test_a_data_set_has_its_sample_unless_one_is_asked_for(made, shop, asked, monkeypatch):
    monkeypatch.setitem(SAMPLES, "shop", 40)
    nothing_to_do = replace(asked, sample=None)
    report(shop, MODELS, nothing_to_do, run_jobs=None)
    monkeypatch.setitem(SAMPLES, "shop", 30)
    report(shop, MODELS, asked, run_jobs=None)
    todo = []
    with pytest.raises(TrainingFailed):
        report(shop, MODELS, nothing_to_do, run_jobs=lambda jobs, *_: todo.extend(jobs))
    assert [list(job.steps) for job in todo] == [["evaluate"]] * 3
    assert "30" in todo[0].steps["evaluate"]


def test_a_model_that_is_not_finished_is_no_report(shop, asked, here):
    with pytest.raises(TrainingFailed, match="give the command again"):
        report(shop, ["din"], asked, run_jobs=lambda *_: None)
    assert not (here / "export").exists()


def test_the_page_says_that_the_data_has_no_impressions(made):
    assert "the negatives are drawn by popularity" in (made / "report.md").read_text()


def test_a_registered_data_set_is_described_by_its_reader():
    assert "It holds purchases, not clicks" in content_module.about("complete_journey")
    assert content_module.about("shop") == ""
