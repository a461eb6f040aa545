"""The plan of a fleet as text: formula, figures, sensitivity, tail."""

from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from loadtest.fleet import plan as machines
from loadtest.fleet.plan import Demand, Fleet, Machine, Measured, measured, plan, sensitivity
from loadtest.fleet.tail import SLOWER, STORE_TIMEOUT_MS, simulate
from loadtest.measured_on import RESULTS


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
    others = sensitivity(demand, machine, results)
    console.print(_fleets(store, scorers))
    console.print(_sensitivity([("as asked", store, scorers), *(other[:3] for other in others)]))
    for note in dict.fromkeys([*of.notes, *(note for *_, notes in others for note in notes)]):
        console.print(f"note: {note}", highlight=False, soft_wrap=True)
    console.print(_tails(demand, machine, of, store, scorers))


def _formula() -> str:
    """The formula as the plan's own text has it."""
    text = machines.__doc__ or ""
    return text[text.index("    store ") : text.index("A machine count")].rstrip() + "\n"


def _named(values: dict[str, object]) -> str:
    texts = {name: f"{value:,.6g}" if isinstance(value, float | int) else str(value) for name, value in values.items()}
    return ", ".join(f"{name} {text}" for name, text in texts.items())


def _fleets(store: Fleet, scorers: Fleet) -> Table:
    table = Table("", "machines", "decided by", "cores", "memory GB", "network Gbit/s")
    for name, fleet in (("store", store), ("scorers", scorers)):
        figures = (f"{fleet.cores:,.0f}", f"{fleet.memory_gb:,.0f}", f"{fleet.network_gbit:,.1f}")
        table.add_row(name, f"{fleet.machines:,}", fleet.decided_by, *figures)
    return table


def _sensitivity(plans: list[tuple[str, Fleet, Fleet]]) -> Table:
    table = Table("what if", "store machines", "scorer machines", "store Gbit/s", "scorer Gbit/s")
    for name, store, scorers in plans:
        gbit = f"{store.network_gbit:,.1f}", f"{scorers.network_gbit:,.1f}"
        table.add_row(name, f"{store.machines:,}", f"{scorers.machines:,}", *gbit)
    return table


def _tails(demand: Demand, machine: Machine, of: Measured, store: Fleet, scorers: Fleet) -> Table:
    table = Table("simulated tail", "p50 ms", "p99 ms", "p99.9 ms", "degraded")
    for tail in simulate(demand, machine, of, store, scorers):
        table.add_row(tail.what, f"{tail.p50_ms:.1f}", f"{tail.p99_ms:.1f}", f"{tail.p999_ms:.1f}", f"{tail.degraded:.3%}")
    slow = f"A slow shard answers {SLOWER} times slower"
    table.caption = f"{slow}; what takes over {STORE_TIMEOUT_MS:g} ms is given up, and the answer is degraded."
    return table
