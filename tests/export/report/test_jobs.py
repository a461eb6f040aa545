"""What the report still lacks, and running it."""

import io
import json
import re
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from export.report import jobs as jobs_module
from export.report.budget import budget_of
from export.report.jobs import Job, missing, run
from export.run import TrainingFailed

SILENT = Console(file=io.StringIO())


def lacking(shop, asked, models=("din", "eta")):
    budgets = {model: budget_of("shop", model, asked.days, asked.epochs) for model in models}
    return {job.model: list(job.steps) for job in missing(shop, budgets, asked)}


def test_what_is_finished_is_not_done_again(made, shop, asked):
    assert lacking(shop, asked) == {"eta": ["train", "evaluate"]}


def test_another_budget_trains_again_unless_any_run_will_do(made, shop, asked):
    longer = replace(asked, days=41)
    assert lacking(shop, longer, ["din"]) == {"din": ["train", "evaluate"]}
    assert lacking(shop, replace(longer, any_run=True), ["din"]) == {}


def test_another_sample_evaluates_again(made, shop, asked):
    assert lacking(shop, replace(asked, sample=41), ["din"]) == {"din": ["evaluate"]}


def test_a_run_without_figures_is_evaluated(made, shop, asked, here):
    (here / "runs/models/shop/twin/evaluation.json").unlink()
    assert lacking(shop, asked, ["twin"]) == {"twin": ["evaluate"]}


def test_a_run_for_tuning_is_none_for_the_report(made, shop, asked, here):
    path = here / "runs/models/shop/din/run.json"
    facts = json.loads(path.read_text())
    facts["settings"]["tune"] = True
    path.write_text(json.dumps(facts))
    assert lacking(shop, replace(asked, any_run=True), ["din"]) == {"din": ["train", "evaluate"]}


def test_a_job_that_fails_is_named_with_its_log_and_stops_no_other(here, monkeypatch):
    program = "import sys; print('[1, 1, 0.5]'); open(sys.argv[1], 'w').close(); sys.exit(int(sys.argv[2]) and 'out of luck')"
    monkeypatch.setattr(jobs_module, "PROGRAM", (sys.executable, "-c", program))
    jobs = [
        Job("broken", {"train": ["a", "1"], "evaluate": ["never", "0"]}),
        Job("good", {"train": ["b", "0"], "evaluate": ["c", "0"]}),
    ]
    with pytest.raises(TrainingFailed) as failed:
        run(jobs, 1, here / "logs", SILENT)
    assert str(failed.value) == "broken: train ended with 1, see " + str(here / "logs/broken.log") + "\nout of luck"
    assert sorted(path.name for path in here.iterdir()) == ["a", "b", "c", "logs"]


def test_a_process_does_what_its_job_says(made, shop, asked, here):
    (here / "runs/models/shop/din/evaluation.json").unlink()
    shown = io.StringIO()
    run(missing(shop, {"din": budget_of("shop", "din", asked.days)}, asked), 1, here / "logs", Console(file=shown))
    assert lacking(shop, asked, ["din"]) == {}
    assert re.search("din: evaluate took [0-9]+ s\n", shown.getvalue())
