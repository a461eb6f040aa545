"""make bench: the speed table. Every row at its constant rate, three rounds; medians of the three, their spread beside them.

Generator, scorer and store share this machine. `page.py` writes what was measured.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from rich.console import Console

from loadtest.measured_on import FOLDER, RESULTS, facts
from loadtest.served.bench_setup import bundles_of, fill_store, models_keeping, store_folder
from loadtest.served.bench_world import BenchWorld, Sizes
from loadtest.speed.page import Measured, ms, write
from loadtest.speed.point import Length, Point, check, measure, running_scorer
from loadtest.speed.work import TABLE, USERS, Work, bodies
from store.connection import connect
from store.embedded import embedded_store

REPEATS, SIZES = 3, Sizes()
LENGTH, QUICK = Length(), Length(seconds=2, warm_up_s=0.5)

console = Console(stderr=True)


@contextmanager
def bench_store(world: BenchWorld, works: Sequence[Work], lives: dict[int, int], folder: Path) -> Iterator[str]:
    """The URL of a store that holds the users of all works, with the snapshots their models read."""
    needed = {work.life: lives[work.life] for work in works}
    servings = {work.serving.name: work.serving for work in works}
    made = [bundles_of(world, serving, folder) for serving in servings.values()]
    with embedded_store(store_folder(world, folder), borrow=False) as url:
        redis: Redis = connect(url)
        keeping = [model for one in made for model in models_keeping(one, redis)]
        fill_store(world, redis, needed, keeping)
        redis.close()
        yield url


def bench_table(
    quick: bool = False, only: str = "", results: Path = RESULTS, folder: Path = FOLDER, sizes: Sizes = SIZES,
    works: Sequence[Work] = TABLE, lives: dict[int, int] = USERS, command: str = "make bench", note: str = "",
    rounds: int = REPEATS, length: Length = LENGTH,
) -> Path:  # fmt: skip
    """Measure the rows, and say where the table is.

    Args:
        quick: one round of 2 s a point, to see that all works; the table goes to `folder`.
        only: models to measure, separated by commas; empty = all. The table goes to `folder` then.
        command, note: what the page says of itself. rounds: of all rows; length: of a point.

    Raises:
        ValueError: no such model, a bundle that cannot be served, an answer that is degraded before the measurement.
    """
    chosen = [work for work in works if not only or work.model in only.split(",")]
    if not chosen:
        raise ValueError(f"no row of {only}; models are {', '.join(sorted({work.model for work in works}))}")
    world, head, length = BenchWorld(sizes), facts(), QUICK if quick else length
    requests = [bodies(world, work, lives[work.life]) for work in chosen]
    points: list[list[Point]] = [[] for _ in chosen]
    searched = [0] * len(chosen)
    servings = {work.serving.name: work.serving for work in chosen}
    with bench_store(world, chosen, lives, folder) as url:
        for repeat in range(1 if quick else rounds):
            for serving in servings.values():
                with running_scorer(serving, bundles_of(world, serving, folder), url) as scorer:
                    for i, work in enumerate(chosen):
                        if work.serving.name == serving.name:
                            searched[i] = check(scorer, requests[i][0])
                            points[i].append(measure(scorer, requests[i], work.per_s, length))
                            console.print(f"{repeat + 1} {_said(work, points[i][-1])}", highlight=False)
                measured = [Measured(*one) for one in zip(chosen, searched, points, strict=True) if one[-1]]
                page = write(measured, head, folder if quick or only else results, length, command, note)  # what there is so far
    return page


def _said(work: Work, point: Point) -> str:
    times = f"p50 {ms(point.p50_ms)}, p99 {ms(point.p99_ms)} ms, CPU {ms(point.cpu_ms)} ms"
    return f"{work.work}, {work.model}, {work.behaviours:,}: {times}, errors {point.errors} of {point.n} {point.kinds or ''}"
