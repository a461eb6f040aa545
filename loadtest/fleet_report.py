"""The plan of a fleet as text: formula, figures, sensitivity, tail."""

from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from loadtest import fleet_plan
from loadtest.fleet_plan import RESULTS, Demand, Fleet, Machine, Measured, measured, plan, sensitivity
from loadtest.fleet_tail import SLOWER, STORE_TIMEOUT_MS, simulate


def report(demand: Demand, machine: Machine, console: Console, results: Path = RESULTS) -> None:
    """Print the plan.

    Raises:
        ValueError: a result file is missing, or what is needed of it.
    """
    of = measured(demand, results)
    store, scorers = plan(demand, machine, of)
    console.print(_formula(), highlight=False)
    console.print("demand:   " + _named(asdict(demand)), highlight=False, soft_wrap=True)
    console.print("machine:  " + _named(asdict(machine)), highlight=False, soft_wrap=True)
    console.print("measured: " + _named({name: value for name, value in asdict(of).items() if name != "notes"}), soft_wrap=True)
    for note in of.notes:
        console.print(f"note: {note}", highlight=False, soft_wrap=True)
    console.print(_fleets(store, scorers))
    console.print(_sensitivity(store, scorers, sensitivity(demand, machine, results)))
    console.print(_tails(demand, machine, of, store, scorers))


def _formula() -> str:
    """The formula as the plan's own text has it."""
    text = fleet_plan.__doc__ or ""
    return text[text.index("    store ") : text.index("A machine count")].rstrip() + "\n"


def _named(values: dict[str, object]) -> str:
    return ", ".join(
        f"{name} {value:,.6g}" if isinstance(value, float | int) else f"{name} {value}" for name, value in values.items()
    )


def _fleets(store: Fleet, scorers: Fleet) -> Table:
    table = Table("", "machines", "decided by", "cores", "memory GB", "network Gbit/s")
    for name, fleet in (("store", store), ("scorers", scorers)):
        figures = (f"{fleet.cores:,.0f}", f"{fleet.memory_gb:,.0f}", f"{fleet.network_gbit:,.1f}")
        table.add_row(name, f"{fleet.machines:,}", fleet.decided_by, *figures)
    return table


def _sensitivity(store: Fleet, scorers: Fleet, others: list[tuple[str, Fleet, Fleet]]) -> Table:
    table = Table("what if", "store machines", "scorer machines", "store Gbit/s", "scorer Gbit/s")
    for name, one, other in [("as asked", store, scorers), *others]:
        gbit = f"{one.network_gbit:,.1f}", f"{other.network_gbit:,.1f}"
        table.add_row(name, f"{one.machines:,}", f"{other.machines:,}", *gbit)
    return table


def _tails(demand: Demand, machine: Machine, of: Measured, store: Fleet, scorers: Fleet) -> Table:
    table = Table("simulated tail", "p50 ms", "p99 ms", "p99.9 ms", "degraded")
    for tail in simulate(demand, machine, of, store, scorers):
        table.add_row(tail.what, f"{tail.p50_ms:.1f}", f"{tail.p99_ms:.1f}", f"{tail.p999_ms:.1f}", f"{tail.degraded:.3%}")
    table.caption = f"A slow shard answers {SLOWER} times slower; what takes over {STORE_TIMEOUT_MS:g} ms is given up, and the answer degraded."
    return table
