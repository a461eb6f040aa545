"""What the report still lacks, and making it: a few processes at once, one model and one thread each."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from export.consistency import REQUESTS
from export.data.dataset import Dataset
from export.report.budget import options, sample_of
from export.report.evaluation import kept_evaluation
from export.run import RUNS, Run, TrainingFailed, TrainSettings, finished

ROOT = Path(__file__).parents[2]
PROGRAM = (sys.executable, "-m", "export")
LOG_TAIL = 2000  # characters


@dataclass(frozen=True)
class ReportSettings:
    """What the report is asked to show."""

    data: str  # as on the command line: a name or a folder
    name: str | None = None
    days: int | None = None  # of training, for all models; None = each its budget's
    epochs: int | None = None
    sample: int | None = None  # test requests to evaluate on; None = the budget's, all by default
    consistency_requests: int = REQUESTS
    any_run: bool = False  # take a finished run of this data whatever it was trained with


@dataclass(frozen=True)
class Job:
    """One model's missing steps, in order: arguments of `python -m export`."""

    model: str
    steps: dict[str, list[str]]  # train, evaluate


def missing(dataset: Dataset, budgets: dict[str, TrainSettings], asked: ReportSettings, runs: Path = RUNS) -> list[Job]:
    """A job for each model that has no finished run within its budget, or no finished figures of that run."""
    data = ["--data", asked.data, *(["--name", asked.name] if asked.name else []), "--threads", "1", "--progress-lines"]
    jobs = []
    for model, budget in budgets.items():
        steps, sample = {}, sample_of(dataset.schema.data, model, asked.sample)
        has_run = _has_any_run(dataset, model, runs) if asked.any_run else finished(dataset, model, budget, runs) is not None
        if not has_run:
            steps["train"] = ["train", model, *data, *options(budget)]
        if steps or kept_evaluation(model, dataset, sample, asked.consistency_requests, runs) is None:
            size = [] if sample is None else ["--sample", str(sample)]
            evaluation = [*data, *size, "--full", "--consistency-requests", str(asked.consistency_requests)]
            steps["evaluate"] = ["evaluate", model, *evaluation]
        if steps:
            jobs.append(Job(model, steps))
    return jobs


def run(jobs: list[Job], at_once: int, logs: Path, console: Console) -> None:
    """Run all jobs, `at_once` at a time, and show how far they are.

    A job that fails does not stop the others: what they leave is reused when the command is given again.

    Raises:
        TrainingFailed: at least one failed; names each with the end of its log.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(),
    )
    logs.mkdir(parents=True, exist_ok=True)
    running: set[subprocess.Popen[str]] = set()
    with Progress(*columns, console=console) as bars, ThreadPoolExecutor(at_once) as pool:
        tasks = [bars.add_task(job.model, total=None, state="waiting", start=False) for job in jobs]
        futures = [
            pool.submit(_run_job, job, logs / f"{job.model}.log", bars, task, running)
            for job, task in zip(jobs, tasks, strict=True)
        ]
        try:
            failures = [failure for future in futures if (failure := future.result())]
        except BaseException:  # interrupted: leave no process behind
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(running):
                process.terminate()
            raise
    if failures:
        raise TrainingFailed("\n".join(failures))


def _run_job(job: Job, log: Path, bars: Progress, task: TaskID, running: "set[subprocess.Popen[str]]") -> str | None:
    """Run the steps of a job; say what failed, if something did."""
    bars.start_task(task)
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with log.open("w+") as errors:
        for step, arguments in job.steps.items():
            bars.update(task, completed=0, total=None, state=step)
            started = time.monotonic()
            with subprocess.Popen(
                [*PROGRAM, *arguments],
                stdout=subprocess.PIPE, stderr=errors, text=True, env={**os.environ, "PYTHONPATH": path},
            ) as process:  # fmt: skip
                running.add(process)
                assert process.stdout is not None
                for line in process.stdout:
                    done, total, state = json.loads(line)
                    shown = f"loss {state:.4f}" if isinstance(state, float) else state
                    bars.update(task, completed=done, total=total, state=f"{step} {shown}")
            running.discard(process)
            if process.returncode:
                bars.update(task, state=f"{step} failed")
                errors.seek(0)
                return f"{job.model}: {step} ended with {process.returncode}, see {log}\n{errors.read()[-LOG_TAIL:].strip()}"
            bars.console.print(f"{job.model}: {step} took {time.monotonic() - started:.0f} s", highlight=False)
    bars.update(task, state="done")
    bars.stop_task(task)
    return None


def _has_any_run(dataset: Dataset, model: str, runs: Path) -> bool:
    """Whether there is a finished run of this data and of the model as it now is, not one for tuning."""
    try:
        run = Run.open(dataset.schema.data, model, dataset, runs)
    except TrainingFailed:
        return False
    return not run.facts["settings"]["tune"]
