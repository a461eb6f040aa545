"""python -m loadtest: the demo, benchmarks, the plan of a fleet, and workloads for load tests."""

import signal
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from redis.exceptions import RedisError
from rich.console import Console

from loadtest.demo import DAYS, LOAD_S, SAMPLE, DemoFailed, demo
from loadtest.stack.compose import StackFailed
from loadtest.workload import CANDIDATES, USERS, make_workload, write_workload
from store.embedded import StoreUnavailable
from store.load import Prepared

app = typer.Typer(no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False, add_completion=False)
console = Console(stderr=True)

Part = Literal["table", "curves", "store", "kernels", "peers"]


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
def bench_command(
    part: Annotated[Part, typer.Option(help="What to measure.")] = "table",
    quick: Annotated[bool, typer.Option("--quick", help="table, peers: see that all works; not into loadtest/results/.")] = False,
    only: Annotated[str, typer.Option(help="table: these models, by comma; not into loadtest/results/.")] = "",
    rounds: Annotated[int, typer.Option(min=1, help="table: how often every row is measured.")] = 3,
) -> None:
    """Measure, and write loadtest/results/.

    table: latency and CPU at constant rates, about 50 minutes. curves: against rate, behaviours and candidates, about 20.
    store: bytes, reads, appends, loads, states and freshness, about three. kernels: searches and attention
    beside libraries, options of sessions, about two.
    peers: other servers, FuxiCTR and a plain export beside ours, about 20.
    """
    console.print(f"{part}: {_bench(part, quick, only, rounds)}")


def _bench(part: Part, quick: bool, only: str, rounds: int) -> Path:
    """Where the page of a part is; each imports what only it needs."""
    if part == "store":
        from loadtest.storing.bench import bench_store

        return bench_store()
    if part == "curves":
        from loadtest.speed.curves import bench_curves

        return bench_curves()
    if part == "kernels":
        from loadtest.kernels.bench import bench_kernels

        return bench_kernels()
    if part == "peers":
        from loadtest.peers.bench import bench_peers

        return bench_peers(quick)
    from loadtest.speed.table import bench_table

    return bench_table(quick, only, rounds=rounds)


@app.command("bench-gpu")
def bench_gpu_command(
    quick: Annotated[bool, typer.Option("--quick", help="See that all works; not into loadtest/results/gpu/.")] = False,
    only: Annotated[str, typer.Option(help="These models, by comma; not into loadtest/results/gpu/.")] = "",
    rounds: Annotated[int, typer.Option(min=1, help="How often every row is measured.")] = 3,
    seconds: Annotated[float, typer.Option(min=1, help="At most so long a point.")] = 60,
) -> None:
    """The speed table on a GPU, and scans of 10^5 behaviours for 1,000 candidates; status 1 where there is no GPU."""
    from loadtest.speed.gpu_table import bench_gpu
    from loadtest.speed.point import Length

    console.print(f"gpu: {bench_gpu(quick, only, rounds=rounds, length=Length(seconds))}")


@app.command("bench-check")
def bench_check_command(
    against: Annotated[str, typer.Option(help="The earlier commit; else the one that loadtest/results/table.json is of.")] = "",
) -> None:
    """Stage times and CPU of a few requests beside an earlier commit's, in turns; status 1 where one is over 10 % slower."""
    from loadtest.speed.stage_check import check_stages

    if not check_stages(against):
        raise SystemExit(1)


@app.command("bench-scorer")
def bench_scorer_command() -> None:
    """What bench-check starts of each code: a store and a scorer for its rows, until stdin ends; says its process and port."""
    from loadtest.speed.stage_check import serve_stages

    serve_stages()


@app.command("prove")
def prove_command(
    long: Annotated[bool, typer.Option("--long", help="Soak of 30 minutes, fuzz of 10, 100 swaps; about 50 minutes.")] = False,
    only: Annotated[
        str, typer.Option(help="These parts, by comma: overload,protocol,faults,swaps,drain,workers,openapi,fuzz,soak.")
    ] = "",
) -> None:
    """Load, protocol, faults, swaps, ends, fuzz and time: what the scorer survives, into loadtest/results/reliability.md; status
    1 where a figure is not met."""
    from loadtest.proofs.page import prove

    page, met = prove(long, only)
    console.print(f"prove: {page}")
    if not met:
        raise SystemExit(1)


@app.command("stack-test")
def stack_test_command() -> None:
    """The compose stack, built, started, used and removed; it needs a container engine. About three minutes."""
    from loadtest.stack.stack_test import stack_test

    stack_test()


@app.command("plan")
def plan_command(
    users: Annotated[float, typer.Option(min=1, help="Users with a history.")] = 600e6,
    behaviours: Annotated[float, typer.Option(min=1, help="Behaviours of a user, on average.")] = 1000,
    requests_per_s: Annotated[float, typer.Option(min=1, help="Requests a second, of the whole fleet.")] = 1e6,
    model: Annotated[str, typer.Option(help="Model that is served; a row of the speed table.")] = "sim_hard",
    candidates: Annotated[float, typer.Option(min=1, help="Candidates of a request.")] = 500,
    hit_rate: Annotated[float, typer.Option(min=0, max=1, help="Of blocks of item tables; 1 = mapped tables.")] = 1.0,
    items: Annotated[float, typer.Option(min=1, help="Items with a row.")] = 10e6,
    cores: Annotated[int, typer.Option(min=1, help="Of a machine.")] = 32,
    memory_gb: Annotated[float, typer.Option(min=1, help="Of a machine.")] = 256,
    network_gbit: Annotated[float, typer.Option(min=0.1, help="Of a machine, a second.")] = 25,
    copies: Annotated[int, typer.Option(min=1, help="Of the store: 2 = a replica for each primary.")] = 2,
) -> None:
    """Machines, memory and network of a fleet, from what make bench measured; and its tail, simulated."""
    from loadtest.fleet.plan import Demand, Machine
    from loadtest.fleet.report import report

    demand = Demand(users, behaviours, requests_per_s, model, candidates, hit_rate, items)
    report(demand, Machine(cores, memory_gb, network_gbit, copies=copies), Console())


@app.command("tables")
def tables_command(bundle: Annotated[Path, typer.Argument(help="A bundle folder, bundles/<model>/<version>.")]) -> None:
    """Measure a request over published item tables against one over mapped ones; about a minute."""
    from loadtest.storing.item_tables import bench_tables

    Console().print(bench_tables(bundle))


def main() -> None:
    """Run the command; errors of ours are one line, not a traceback. Ended by SIGTERM it ends the servers that it started."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        app()
    except (DemoFailed, StackFailed, StoreUnavailable, ValueError, RedisError) as error:
        console.print(f"error {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
