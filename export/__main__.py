"""python -m export: from interactions to verified bundles.

The usual order is train, evaluate, bundle, verify; `build` does all four.
"""

import json
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from export.bundle import BUNDLES, make_bundle, precompute
from export.data.dataset import Dataset
from export.data.prepare import prepare
from export.data.source import DataInvalid
from export.evaluate import evaluate
from export.models import list_models
from export.parity import verify
from export.train import Run, TrainingFailed, TrainSettings, train
from store.bundle import Bundle, BundleInvalid, read_manifest, versions

app = typer.Typer(no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False, add_completion=False)
console = Console(stderr=True)


def _known(model: str) -> str:
    if model not in list_models():
        raise typer.BadParameter(f"{model!r}: known are {', '.join(list_models())}")
    return model


Model = Annotated[str, typer.Argument(help=f"One of {', '.join(list_models())}.", callback=_known)]
Data = Annotated[str, typer.Option(help="A registered data set, or a folder with interactions.parquet.")]
Name = Annotated[str | None, typer.Option(help="What to call a folder's data set; its own name by default.")]
Days = Annotated[int | None, typer.Option(min=1, help="Train on the last days of the training split only; all by default.")]
Epochs = Annotated[int, typer.Option(min=1, help="Passes over the training impressions.")]
Seed = Annotated[int, typer.Option(help="Of parameters, order and negatives.")]
Sample = Annotated[int | None, typer.Option(min=1, help="Evaluate on a seeded sample of so many test requests; all by default.")]
Tune = Annotated[bool, typer.Option("--tune", help="For choosing settings: train up to the validation split, evaluate on it.")]
Threads = Annotated[int, typer.Option(min=0, help="CPU threads of torch; 0 = all cores.")]
Bundles = Annotated[Path, typer.Option(envvar="CTR_BUNDLES", help="Where bundles are.")]
Lines = Annotated[bool, typer.Option("--progress-lines", help="Print progress as JSON lines on standard output, for programs.")]


@app.command("train")
def train_command(
    model: Model, data: Data = "complete_journey", name: Name = None, days: Days = None, epochs: Epochs = 1, seed: Seed = 0,
    threads: Threads = 0, progress_lines: Lines = False, tune: Tune = False,
) -> None:  # fmt: skip
    """Train a model; leaves runs/models/<data>/<model>/."""
    _threads(threads)
    dataset = prepare(data, name)
    _train(dataset, model, TrainSettings(days=days, epochs=epochs, seed=seed, tune=tune), progress_lines)


@app.command("evaluate")
def evaluate_command(
    model: Model, data: Data = "complete_journey", name: Name = None, sample: Sample = None, threads: Threads = 0
) -> None:
    """AUC, GAUC and log loss of the last run on the test impressions; on the validation ones if it was trained with --tune."""
    _threads(threads)
    dataset = prepare(data, name)
    _evaluate(dataset, Run.open(dataset.schema.data, model, dataset), sample)


@app.command("precompute")
def precompute_command(model: Model, data: Data = "complete_journey", name: Name = None) -> None:
    """Write the item tables of the last run: vectors, signatures, projections."""
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
    sample: Sample = None, threads: Threads = 0, progress_lines: Lines = False, bundles: Bundles = BUNDLES,
) -> None:  # fmt: skip
    """Train, evaluate, bundle and verify, in one go."""
    _threads(threads)
    dataset = prepare(data, name)
    run = _train(dataset, model, TrainSettings(days=days, epochs=epochs, seed=seed), progress_lines)
    _evaluate(dataset, run, sample)
    _verify(_bundle(dataset, run, bundles))


@app.command("prepare")
def prepare_command(data: Data = "complete_journey", name: Name = None) -> None:
    """Read and check a data set, and leave it prepared under runs/data/<name>/."""
    facts = prepare(data, name).facts
    console.print(f"{facts['name']}: {facts['users']:,} users, {facts['items']:,} items, {facts['behaviours']:,} behaviours")


def _train(dataset: Dataset, model: str, settings: TrainSettings, progress_lines: bool) -> Run:
    if progress_lines:
        return train(dataset, model, settings, lambda *report: print(json.dumps(report), flush=True))
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
        )  # fmt: skip
    console.print(f"{run.folder}: {run.facts['impressions']:,} impressions in {run.facts['seconds']} s")
    return run


def _evaluate(dataset: Dataset, run: Run, sample: int | None) -> None:
    result = evaluate(dataset, run.model, sample, "validation" if run.facts["settings"]["tune"] else "test")
    figures = result.figures
    known = {name: None if value != value else value for name, value in figures.__dict__.items()}  # NaN is no JSON
    run.note(quality={**known, "sample": result.sample})
    shown = f"AUC {figures.auc:.4f}  GAUC {figures.gauc:.4f}  log loss {figures.log_loss:.4f}"
    console.print(f"{run.facts['model']}: {shown}  ({result.sample})")


def _bundle(dataset: Dataset, run: Run, bundles: Path) -> Bundle:
    bundle = make_bundle(dataset, run, bundles)
    console.print(f"bundle: {bundle.folder}")
    return bundle


def _verify(bundle: Bundle) -> None:
    console.print(f"{bundle.folder}: verified, golden scores differ by at most {verify(bundle):.1e}")


def _threads(threads: int) -> None:
    if threads:
        torch.set_num_threads(threads)


def main() -> None:
    """Run the command; errors of ours are one line, not a traceback."""
    try:
        app()
    except (DataInvalid, TrainingFailed, BundleInvalid) as error:
        console.print(f"error {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
