"""python -m export report: the steps in order. Read this first."""

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from export.data.dataset import Dataset
from export.report.budget import budget_of, sample_of
from export.report.content import content
from export.report.evaluation import kept_evaluation
from export.report.jobs import Job, ReportSettings, missing, run
from export.report.pages import REPORTS, write_report
from export.run import RUNS, TrainingFailed

LOGS = Path("runs/report")


def report(
    dataset: Dataset,
    models: Sequence[str],
    asked: ReportSettings,
    jobs_at_once: int = 2,
    reports: Path = REPORTS,
    console: Console | None = None,
    run_jobs: Callable[[list[Job], int, Path, Console], None] = run,
) -> Path:
    """Train and evaluate what is missing, then write the report; what is finished is reused.

    Returns:
        the folder of report.html, report.md and report.json.

    Raises:
        TrainingFailed: a model failed; the others are kept, and reused the next time.
    """
    console = console or Console(stderr=True)
    data = dataset.schema.data
    budgets = {model: budget_of(data, model, asked.days, asked.epochs) for model in models}
    jobs = missing(dataset, budgets, asked)
    todo = ", ".join(f"{job.model} ({', '.join(job.steps)})" for job in jobs) or "nothing"
    console.print(f"{data}: {len(models) - len(jobs)} of {len(models)} models are finished; to do: {todo}")
    if jobs:
        run_jobs(jobs, jobs_at_once, LOGS / data, console)
    parts = {}
    for model in models:
        complete = kept_evaluation(model, dataset, sample_of(data, model, asked.sample), asked.consistency_requests)
        if complete is None:
            raise TrainingFailed(f"{RUNS / data / model}: changed while the report was made; give the command again")
        parts[model] = complete
    return write_report(content(dataset, parts, sample_of(data, "", asked.sample)), reports)
