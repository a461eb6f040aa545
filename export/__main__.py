"""python -m export: from interactions to verified bundles.

The usual order is train, evaluate, bundle, verify; `build` does all four.
"""

import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from export.bundle import BUNDLES, make_bundle
from export.consistency import REQUESTS
from export.data.dataset import Dataset
from export.data.prepare import prepare
from export.data.source import DataInvalid
from export.evaluate import evaluate
from export.fuxictr import CompareSettings, compare
from export.fuxictr_ours import beside
from export.fuxictr_zoo import TWINS
from export.items import NewItems, add_items, newest_bundles
from export.json_files import kept_as_json
from export.models import list_models
from export.parity import verify
from export.precompute import precompute
from export.report.evaluation import evaluate_fully
from export.report.jobs import ReportSettings
from export.run import RUNS, Run, TrainingFailed, TrainSettings
from export.start import Start
from export.train import train
from store.bundle import Bundle, BundleInvalid, read_manifest, versions
from store.connection import connect
from store.registry import StoredRegistry

app = typer.Typer(no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False, add_completion=False)
console = Console(stderr=True)


def _known(model: str) -> str:
    if model not in list_models():
        raise typer.BadParameter(f"{model!r}: known are {', '.join(list_models())}")
    return model


def _all_known(models: list[str] | None) -> list[str]:
    return [_known(model) for model in models or list_models()]


def _twins(models: list[str] | None) -> list[str] | None:
    if unknown := sorted(set(models or []) - set(TWINS)):
        raise typer.BadParameter(f"{', '.join(unknown)}: FuxiCTR has {', '.join(TWINS)}")
    return models


Model = Annotated[str, typer.Argument(help=f"One of {', '.join(list_models())}.", callback=_known)]
Models = Annotated[list[str] | None, typer.Argument(help="Which models; all by default.", callback=_all_known)]
Twins = Annotated[list[str] | None, typer.Argument(help=f"Some of {', '.join(TWINS)}; all by default.", callback=_twins)]
Data = Annotated[str, typer.Option(help="A registered data set, or a folder with interactions.parquet.")]
Name = Annotated[str | None, typer.Option(help="What to call a folder's data set; its own name by default.")]
Days = Annotated[int | None, typer.Option(min=1, help="Train on the last days of the training split only; all by default.")]
Epochs = Annotated[int, typer.Option(min=1, help="Passes over the training impressions.")]
Batch = Annotated[int, typer.Option(min=1, help="Requests of a training step, for each process.")]
Seed = Annotated[int, typer.Option(help="Of parameters, order and negatives.")]
Sample = Annotated[int | None, typer.Option(min=1, help="Evaluate on a seeded sample of so many test requests; all by default.")]
Consistency = Annotated[int, typer.Option(min=1, help="Test requests to measure the consistency of searches on.")]
Tune = Annotated[bool, typer.Option("--tune", help="For choosing settings: train up to the validation split, evaluate on it.")]
Threads = Annotated[int, typer.Option(min=0, help="CPU threads of torch; 0 = all cores.")]
Devices = Annotated[int, typer.Option(min=1, help="Processes that share each training step, a batch each.")]
Patience = Annotated[int, typer.Option(min=0, help="Stop after so many evaluations without a better AUC; 0 = never.")]
Every = Annotated[int | None, typer.Option(min=1, help="Steps between evaluations on the validation split.")]
Kept = Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")]
Again = Annotated[bool, typer.Option("--again", help="Begin anew where an interrupted run would go on.")]
From = Annotated[Path | None, typer.Option("--from", help="Continue from the weights of a bundle's or a run's folder.")]
Runs = Annotated[Path, typer.Option(help="Where runs are kept; `report` reuses those in the default place.")]
Bundles = Annotated[Path, typer.Option(envvar="CTR_BUNDLES", help="Where bundles are.")]
Lines = Annotated[bool, typer.Option("--progress-lines", help="Print progress as JSON lines on standard output, for programs.")]


@app.command("train")
def train_command(
    model: Model, data: Data = "complete_journey", name: Name = None, days: Days = None, epochs: Epochs = 1, seed: Seed = 0,
    threads: Threads = 0, progress_lines: Lines = False, tune: Tune = False, devices: Devices = 1, patience: Patience = 0,
    evaluate_every: Every = None, checkpoint_every: Kept = 500, again: Again = False, from_: From = None,
    requests_a_batch: Batch = 16,
) -> None:  # fmt: skip
    """Train a model; leaves runs/models/<data>/<model>/. The same command after an interruption goes on where it was."""
    _threads(threads)
    dataset = prepare(data, name)
    settings = TrainSettings(
        days=days, epochs=epochs, requests_a_batch=requests_a_batch, seed=seed, tune=tune, devices=devices, patience=patience,
        evaluate_every=evaluate_every, checkpoint_every=checkpoint_every,
    )  # fmt: skip
    _train(dataset, model, settings, progress_lines, again, Start.open(from_) if from_ else None)


@app.command("evaluate")
def evaluate_command(
    model: Model, data: Data = "complete_journey", name: Name = None, sample: Sample = None, threads: Threads = 0,
    full: Annotated[bool, typer.Option("--full", help="All that the report shows; leaves evaluation.json.")] = False,
    consistency_requests: Consistency = REQUESTS, progress_lines: Lines = False,
) -> None:  # fmt: skip
    """AUC, GAUC and log loss of the last run on the test impressions; on the validation ones if it was trained with --tune."""
    _threads(threads)
    dataset = prepare(data, name)
    run = Run.open(dataset.schema.data, model, dataset)
    with _evaluating(model, progress_lines) as progress:
        if full:
            quality = evaluate_fully(dataset, run, sample, consistency_requests, progress)["quality"]
            _note(run, quality["figures"], quality["sample"])
        else:
            _evaluate(dataset, run, sample, progress)


@app.command("precompute")
def precompute_command(model: Model, data: Data = "complete_journey", name: Name = None) -> None:
    """Write what is made offline of the last run: vectors, signatures, projections, buckets; snapshots of all users for the
    models that keep one (sdim's buckets, mimn's memories, twin_v2's clusters). `bundle` takes the tables as they are."""
    dataset = prepare(data, name)
    console.print(f"tables: {precompute(dataset, Run.open(dataset.schema.data, model, dataset))}")


@app.command("bundle")
def bundle_command(model: Model, data: Data = "complete_journey", name: Name = None, bundles: Bundles = BUNDLES) -> None:
    """Make a new bundle version of the last run."""
    dataset = prepare(data, name)
    _bundle(dataset, Run.open(dataset.schema.data, model, dataset), bundles)


@app.command("verify")
def verify_command(
    model: Model, data: Data = "complete_journey", name: Name = None,
    version: Annotated[str | None, typer.Option(help="The data set's newest by default.")] = None, bundles: Bundles = BUNDLES,
) -> None:  # fmt: skip
    """Open a bundle, check every file, and replay its golden request with onnxruntime."""
    known = versions(bundles / model)
    if version is None:
        data_name = name or Path(data).name
        known = [known_version for known_version in known if read_manifest(bundles / model / known_version).data == data_name]
        version = known[-1] if known else None
    if version not in known:
        raise BundleInvalid(f"{bundles / model}: version {version or 'none'} of {data}, there are {', '.join(known) or 'none'}")
    _verify(Bundle(bundles / model / version))


@app.command()
def build(
    model: Model, data: Data = "complete_journey", name: Name = None, days: Days = None, epochs: Epochs = 1, seed: Seed = 0,
    sample: Sample = None, threads: Threads = 0, progress_lines: Lines = False, bundles: Bundles = BUNDLES, runs: Runs = RUNS,
) -> None:  # fmt: skip
    """Train, evaluate, bundle and verify, in one go."""
    _threads(threads)
    dataset = prepare(data, name)
    run = _train(dataset, model, TrainSettings(days=days, epochs=epochs, seed=seed), progress_lines, runs=runs)
    with _evaluating(model, False) as progress:
        _evaluate(dataset, run, sample, progress)
    _verify(_bundle(dataset, run, bundles))


@app.command("compare")
def compare_command(
    models: Twins = None, data: Data = "complete_journey", name: Name = None, days: Days = None, epochs: Epochs = 1,
    seed: Seed = 0, sample: Sample = None, threads: Threads = 0,
    minutes: Annotated[float, typer.Option(min=0, help="For all of FuxiCTR's models together, evaluation included.")] = 60,
    length: Annotated[int, typer.Option(min=2, help="Newest behaviours that a model reads.")] = 200,
    again: Annotated[bool, typer.Option("--again", help="Train models anew that were finished with these settings.")] = False,
) -> None:  # fmt: skip
    """Train FuxiCTR's models of the same names on the same impressions, then ours cut to the same length.

    Leaves runs/fuxictr/<data>/<model>.json, which the report shows.
    """
    _threads(threads)
    dataset = prepare(data, name)
    settings = CompareSettings(days=days, epochs=epochs, minutes=minutes, length=length, sample=sample, seed=seed)
    for model, result in compare(dataset, models or list(TWINS), settings, again).items():
        quality, seen = result["quality"], f"{result['impressions']:,} of {result['planned']:,} impressions"
        shown = "  ".join(f"{title} {quality[key] or math.nan:.4f}" for key, title in (("auc", "AUC"), ("gauc", "GAUC")))
        console.print(f"{model} of FuxiCTR {result['version']}: {shown}  ({quality['sample']}; {seen}, {result['seconds']} s)")
        ours = beside(dataset, model, settings, again)
        console.print(f"{model}, ours cut to {length}: AUC {ours['auc'] or math.nan:.4f}  GAUC {ours['gauc'] or math.nan:.4f}")


@app.command("report")
def report_command(
    models: Models = None, data: Data = "complete_journey", name: Name = None, days: Days = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training impressions, for all models.")] = None,
    sample: Sample = None, consistency_requests: Consistency = REQUESTS,
    jobs: Annotated[int, typer.Option(min=1, help="Models at once, a process and a thread each.")] = 2,
    any_run: Annotated[bool, typer.Option("--any-run", help="Take finished runs whatever they were trained with.")] = False,
) -> None:  # fmt: skip
    """Train and evaluate what is not finished, and write export/reports/<data>/report.html, .md and .json.

    Days and epochs are each model's budget by default (export/report/budget.py).
    """
    from export.report.report import report  # it brings matplotlib, which the other commands do without

    asked = ReportSettings(data, name, days, epochs, sample, consistency_requests, any_run)
    folder = report(prepare(data, name), models or list_models(), asked, jobs)
    console.print(f"report: {folder}")


@app.command("items")
def items_command(
    folder: Annotated[Path, typer.Argument(help="A folder with items.parquet: item_id, category, inherent features.")],
    data: Annotated[str, typer.Option(help="The data set's name, as its bundles have it.")] = "complete_journey",
    bundles: Bundles = BUNDLES,
    url: Annotated[str, typer.Option(envvar="CTR_REDIS_URL", help="A store to give the rows to as well; empty = none.")] = "",
) -> None:
    """Give new items rows, vectors, signatures and projections: a new version of every bundle, without training.

    Items that are known keep what they have. All bundles of the data set get the same rows. The store gets them too where
    --url names one: a row that something else has there is an error, and no bundle is written.
    """
    newest = newest_bundles(bundles, data)
    if not newest:
        raise BundleInvalid(f"{bundles}: no bundle of data set {data}")
    opened = {model: Bundle(path) for model, path in newest.items()}
    items = NewItems.read(folder, list(opened.values()))
    if url:
        StoredRegistry(connect(url), data).load(items.registry)
    for model, bundle in opened.items():
        added = add_items(items, bundle)
        if added is None:
            console.print(f"{model}: {bundle.folder.name} knows all items of {folder}")
            continue
        unseen = ", ".join(f"{count} of {name}" for name, count in added.unseen.items() if count) or "none"
        console.print(
            f"{model}: {added.bundle.folder}: {added.new:,} new items, {added.known:,} known; values not seen: {unseen}"
        )
        _verify(added.bundle)


@app.command("prepare")
def prepare_command(data: Data = "complete_journey", name: Name = None) -> None:
    """Read and check a data set, and leave it prepared under runs/data/<name>/."""
    facts = prepare(data, name).facts
    console.print(f"{facts['name']}: {facts['users']:,} users, {facts['items']:,} items, {facts['behaviours']:,} behaviours")


def _train(
    dataset: Dataset, model: str, settings: TrainSettings, progress_lines: bool, again: bool = False, start: Start | None = None,
    runs: Path = RUNS,
) -> Run:  # fmt: skip
    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    if progress_lines:
        return train(
            dataset,
            model,
            settings,
            lambda *report: print(json.dumps(report), flush=True),
            runs,
            say=say,
            again=again,
            start=start,
        )
    columns = (
        TextColumn(f"train {model}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("train", total=None, loss="")
        run = train(
            dataset, model, settings,
            lambda step, steps, loss: bar.update(task, completed=step, total=steps, loss=f"loss {loss:.4f}"),
            runs, say=say, again=again, start=start,
        )  # fmt: skip
    console.print(f"{run.folder}: {run.facts['impressions']:,} impressions in {run.facts['seconds']} s")
    return run


def _evaluate(dataset: Dataset, run: Run, sample: int | None, progress: Callable[[int, int, str], None]) -> None:
    split = "validation" if run.facts["settings"]["tune"] else "test"
    result = evaluate(dataset, run.model, sample, split, progress=lambda done, total: progress(done, total, split))
    _note(run, kept_as_json(asdict(result.figures)), result.sample)


def _note(run: Run, figures: dict[str, Any], sample: str) -> None:
    run.note(quality={**figures, "sample": sample})
    titles = {"auc": "AUC", "gauc": "GAUC", "log_loss": "log loss"}
    shown = "  ".join(f"{title} {math.nan if figures[key] is None else figures[key]:.4f}" for key, title in titles.items())
    console.print(f"{run.facts['model']}: {shown}  ({sample})")


@contextmanager
def _evaluating(model: str, progress_lines: bool) -> Iterator[Callable[[int, int, str], None]]:
    """What to tell how far an evaluation is: requests done, requests in all, the part that runs."""
    if progress_lines:
        yield lambda *report: print(json.dumps(report), flush=True)
        return
    columns = (TextColumn(f"evaluate {model}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[part]}"))
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task("evaluate", total=None, part="")
        yield lambda done, total, part: bar.update(task, completed=done, total=total, part=part)


def _bundle(dataset: Dataset, run: Run, bundles: Path) -> Bundle:
    bundle = make_bundle(dataset, run, bundles)
    console.print(f"bundle: {bundle.folder}")
    return bundle


def _verify(bundle: Bundle) -> None:
    console.print(f"{bundle.folder}: verified, golden scores differ by at most {verify(bundle):.1e}")


def _threads(threads: int) -> None:
    if threads:
        torch.set_num_threads(threads)
        os.environ["OMP_NUM_THREADS"] = str(threads)  # for processes that training starts


def main() -> None:
    """Run the command; errors of ours are one line, not a traceback."""
    try:
        app()
    except (DataInvalid, TrainingFailed, BundleInvalid) as error:
        console.print(f"error {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
