"""The whole path once, on real data: train -> export -> load the store -> serve -> score -> load test.

Leaves bundles/, the loaded store in runs/store and the figures in runs/demo.json; no process.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from export.report.machine import cores, machine
from loadtest.scorer_client import ScorerClient
from loadtest.workload import make_workload, write_workload
from store.bundle import read_manifest, versions
from store.embedded import DEFAULT_FOLDER, embedded_store
from store.load import Prepared, load

DATA = "complete_journey"
MODELS = ["sim_hard", "twin", "eta", "din"]  # the longest first: one trains on each core
DAYS = 42  # training impressions: weeks 40-45
SAMPLE = 6000  # test requests to evaluate on
LOAD_S = 8  # of locust, per model
LOAD_USERS = 2
STORE_TIMEOUT_MS = 100  # not 8: trainer, store, scorer and locust share the cores
RUNS, BUNDLES = Path("runs"), Path("bundles")
WORKLOAD = RUNS / "workload.json"

console = Console()


class DemoFailed(RuntimeError):
    """A step of the demo did not end well."""


def demo(days: int = DAYS, sample: int = SAMPLE, load_s: int = LOAD_S) -> dict[str, Any]:
    """Run everything; return (and write) what runs/demo.json holds."""
    started = time.monotonic()
    shutil.rmtree(RUNS / "demo", ignore_errors=True)
    (RUNS / "demo").mkdir(parents=True)
    _step("1. read complete_journey (a public household panel: purchases, not clicks)")
    _run([sys.executable, "-m", "export", "prepare"], RUNS / "demo/prepare.log")
    prepared = Prepared.open(RUNS / "data" / DATA)
    console.print(f"   {prepared.rows:,} behaviours, {len(prepared.registry.ids):,} items")
    _step(f"2. train, evaluate and export {', '.join(sorted(MODELS))}: one pass over the last {days} days of training")
    _build_models(days, sample)
    write_workload(make_workload(prepared), WORKLOAD)
    with embedded_store(DEFAULT_FOLDER) as url:
        _step("3. load every user's behaviour tree into the store")
        _load(prepared, url)
        with _scorer(url) as client:
            _step("4. POST /score: one real user, 500 real candidates, each model")
            answers = _score(client)
            _step(f"5. locust: {LOAD_USERS} users, {load_s} s a model")
            figures = {name: _load_test(client.url, name, load_s) for name in sorted(MODELS)}
    result = _result(figures, days)
    (RUNS / "demo.json").write_text(json.dumps(result, indent=1))
    _print(answers, result, days, time.monotonic() - started)
    return result


def _build_models(days: int, sample: int) -> None:
    """A model per core at a time, a process and a thread each: a batch is too small to share between threads."""
    columns = (
        TextColumn("   {task.description:9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bars, ThreadPoolExecutor(min(cores(), len(MODELS))) as pool:
        jobs = []
        for name in MODELS:
            task = bars.add_task(name, total=None, state="waiting", start=False)
            jobs.append(pool.submit(_build_model, name, days, sample, bars, task))
        for job in jobs:
            job.result()


def _build_model(name: str, days: int, sample: int, bars: Progress, task: Any) -> None:
    bars.start_task(task)
    command = [
        sys.executable,
        "-m",
        "export",
        "build",
        name,
        "--days",
        str(days),
        "--sample",
        str(sample),
        "--threads",
        "1",
        "--bundles",
        str(BUNDLES),
        "--runs",
        str(RUNS / "demo" / "models"),  # not where the report keeps its own, longer trained
    ]
    log = RUNS / "demo" / f"{name}.log"
    with log.open("w") as errors:
        process = subprocess.Popen([*command, "--progress-lines"], stdout=subprocess.PIPE, stderr=errors, text=True)
        assert process.stdout is not None
        for line in process.stdout:
            step, steps, loss = json.loads(line)
            state = f"loss {loss:.4f}" if step < steps else "evaluate, export, verify"
            bars.update(task, completed=step, total=steps, state=state)
        if process.wait():
            raise DemoFailed(f"{name}: see {log}\n{log.read_text()[-2000:]}")
    bars.update(task, state="done")
    bars.stop_task(task)


def _load(prepared: Prepared, url: str) -> None:
    columns = (TextColumn("   trees"), BarColumn(), MofNCompleteColumn(), TextColumn("behaviours"), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        task = bars.add_task("trees", total=prepared.rows)
        load(prepared, url, lambda one: bars.advance(task, one.behaviours))


@contextmanager
def _scorer(redis_url: str) -> Iterator[ScorerClient]:
    """A scorer in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CTR_")}
    environment |= {
        "CTR_PORT": str(port),
        "CTR_REDIS_URL": redis_url,
        "CTR_BUNDLES": str(BUNDLES),
        "CTR_STORE_TIMEOUT_MS": str(STORE_TIMEOUT_MS),
    }
    log = RUNS / "demo/scorer.log"
    with log.open("w") as output:
        process = subprocess.Popen([sys.executable, "-m", "service"], env=environment, stdout=output, stderr=output)
        client = ScorerClient(f"http://127.0.0.1:{port}")
        try:
            deadline = time.monotonic() + 90
            while not client.ready():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise DemoFailed(f"the scorer does not start, see {log}\n{log.read_text()[-2000:]}")
                time.sleep(0.1)
            yield client
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _score(client: ScorerClient) -> dict[str, dict[str, Any]]:
    request = json.loads(WORKLOAD.read_text())[0]
    answers = {}
    for name in sorted(MODELS):
        client.score({**request, "model": name})  # the first one compiles nothing, but fills caches
        answer, timing = client.score({**request, "model": name})
        if answer["degraded"]:
            raise DemoFailed(f"{name}: degraded {answer['degraded']}")
        best = sorted(zip(answer["scores"], request["item_ids"], strict=True), reverse=True)[:3]
        answers[name] = {**answer, "best": best, "timing": timing, "user_id": request["user_id"]}
    return answers


def _load_test(url: str, model: str, load_s: int) -> dict[str, Any]:
    figures = RUNS / "demo" / f"load_{model}.json"
    log = RUNS / "demo" / f"locust_{model}.log"
    _run(
        [
            sys.executable, "-m", "locust", "-f", "loadtest/locustfile.py", "--headless", "--host", url, "--only-summary",
            "-u", str(LOAD_USERS), "-r", str(LOAD_USERS), "-t", f"{load_s}s", "--model", model,
            "--workload", str(WORKLOAD), "--figures", str(figures), "--exit-code-on-error", "0",
        ],
        log,
    )  # fmt: skip
    result: dict[str, Any] = json.loads(figures.read_text())
    console.print(f"   {model:9} {result['requests']} requests, {result['errors']} errors")
    if result["errors"] or not result["requests"]:
        raise DemoFailed(f"{model}: {result['errors']} of {result['requests']} requests failed, see {log}")
    return result


def _result(figures: dict[str, dict[str, Any]], days: int) -> dict[str, Any]:
    models = {}
    for name, load_figures in figures.items():
        manifest = read_manifest(BUNDLES / name / versions(BUNDLES / name)[-1])
        quality = manifest.quality
        assert quality is not None
        assert quality.auc is not None
        assert quality.gauc is not None
        models[name] = {
            "auc": round(quality.auc, 4), "gauc": round(quality.gauc, 4), "evaluated_on": quality.sample,
            **load_figures, "version": manifest.version,
        }  # fmt: skip
    return {
        "schema": 1,
        "data": DATA,
        "machine": machine(),
        "store_timeout_ms": STORE_TIMEOUT_MS,
        "calibrated": False,  # drawn negatives: the scores rank
        "trained_on": f"last {days} days before the test weeks, one pass",
        "models": models,
    }


def _print(answers: dict[str, dict[str, Any]], result: dict[str, Any], days: int, seconds: float) -> None:
    answer = answers["twin"]
    console.print(f"\n[bold]POST /score[/bold] user {answer['user_id']}, 500 candidates, the three best of each model")
    table = Table("model", "version", "behaviours", "best candidates", "server")
    for name, answer in answers.items():
        best = "  ".join(f"{item} {score:.3f}" for score, item in answer["best"])
        table.add_row(name, answer["version"], str(answer["behaviours"]), best, f"{answer['timing']['total']:.1f} ms")
    console.print(table)
    table = Table("model", "AUC", "GAUC", "p50 ms", "p99 ms", "req/s", "requests", "errors")
    for name, row in result["models"].items():
        figures = (row["auc"], row["gauc"], row["p50_ms"], row["p99_ms"], row["rps"], row["requests"], row["errors"])
        table.add_row(name, *map(str, figures))
    console.print(table)
    console.print(
        f"AUC and GAUC: {result['models']['din']['evaluated_on']} of weeks 46-53; trained {days} days, one pass, to be quick.\n"
        f"Latency: {LOAD_USERS} closed-loop locust users on the same machine ({result['machine']}), 1 ms steps, "
        f"store timeout {STORE_TIMEOUT_MS} ms.\n"
        "The data has no impressions: scores rank, they are not calibrated for bidding.\n"
        f"Took {seconds:.0f} s; the figures are in runs/demo.json.\n\n"
        "Keep it running:  [bold]make serve[/bold]   then\n"
        "  curl -s http://127.0.0.1:8000/score -H 'content-type: application/json' "
        f"-d '{{\"user_id\": {answers['twin']['user_id']}, \"item_ids\": [1082185, 995242, 1029743]}}'",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


def _step(text: str) -> None:
    console.print(f"[bold]{text}[/bold]", highlight=False)


def _run(command: list[str], log: Path) -> None:
    with log.open("w") as output:
        code = subprocess.run(command, stdout=output, stderr=output).returncode
    if code:
        raise DemoFailed(f"{' '.join(command[1:5])}: exit {code}, see {log}\n{log.read_text()[-2000:]}")
