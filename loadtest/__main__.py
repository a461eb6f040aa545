"""python -m loadtest: the demo, benchmarks, and workloads for load tests."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from redis.exceptions import RedisError
from rich.console import Console

from loadtest.demo import DAYS, LOAD_S, SAMPLE, DemoFailed, demo
from loadtest.workload import CANDIDATES, USERS, make_workload, write_workload
from store.embedded import StoreUnavailable
from store.load import Prepared

app = typer.Typer(no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False, add_completion=False)
console = Console(stderr=True)

Part = Literal["store", "kernels"]


@app.command("demo")
def demo_command(
    days: Annotated[int, typer.Option(min=1, help="Training impressions of the last days only.")] = DAYS,
    sample: Annotated[int, typer.Option(min=1, help="Test requests to evaluate on.")] = SAMPLE,
    load_s: Annotated[int, typer.Option(min=1, help="Seconds of locust, per model.")] = LOAD_S,
) -> None:
    """The whole path once: train, export, load, serve, score, load test. Writes runs/demo.json."""
    demo(days, sample, load_s)


@app.command("workload")
def workload_command(
    data: Annotated[str, typer.Option(help="A prepared data set.")] = "complete_journey",
    users: Annotated[int, typer.Option(min=1, help="Requests to make, one per user.")] = USERS,
    candidates: Annotated[int, typer.Option(min=1, help="Items a request.")] = CANDIDATES,
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("runs/workload.json"),
) -> None:
    """Make a workload file for locust from a prepared data set."""
    write_workload(make_workload(Prepared.open(Path("runs/data") / data), users, candidates), out)
    console.print(f"{out}: {users} requests of {candidates} candidates")


@app.command("bench")
def bench_command(part: Annotated[Part, typer.Option(help="What to measure.")] = "store") -> None:
    """Measure, and write loadtest/results/. `store`: bytes, reads, appends, loads, states and freshness; about three minutes.
    `kernels`: the exact searches beside libraries' on one core; about a minute."""
    from loadtest.kernels_bench import bench_kernels
    from loadtest.store_bench import bench_store

    benches = {"store": bench_store, "kernels": bench_kernels}
    console.print(f"{part}: {benches[part]()}")


@app.command("tables")
def tables_command(bundle: Annotated[Path, typer.Argument(help="A bundle folder, bundles/<model>/<version>.")]) -> None:
    """Measure a request over published item tables against one over mapped ones; about a minute."""
    from loadtest.tables_bench import bench_tables

    Console().print(bench_tables(bundle))


def main() -> None:
    """Run the command; errors of ours are one line, not a traceback."""
    try:
        app()
    except (DemoFailed, StoreUnavailable, ValueError, RedisError) as error:
        console.print(f"error {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
