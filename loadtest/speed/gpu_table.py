"""make bench-gpu: the speed table with graphs and searches on a GPU, and 1,000 candidates over 10^5 behaviours.

The same rows, requests and generator as `make bench`; into loadtest/results/gpu/.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import onnxruntime

from loadtest.measured_on import FOLDER, RESULTS, gpus
from loadtest.served.bench_setup import Serving, bundles_of
from loadtest.served.bench_world import BenchWorld, Sizes
from loadtest.speed.point import Length
from loadtest.speed.table import LENGTH, REPEATS, SIZES, bench_table
from loadtest.speed.work import TABLE, USERS, Work
from service.attend import Graph
from service.device import CUDA
from service.device_options import Providers
from store.bundle import Bundle, versions

ON_GPU = {"CTR_PROVIDERS": "cuda", "CTR_SEARCH": "device"}
WAYS: dict[str, tuple[str, dict[str, str]]] = {  # of scans of many candidates: what a row says, and its settings
    "scans": ("", {}),
    "float16": (", float16", {"CTR_PRECISION": "float16"}),
    "cpu_search": (", searched by the CPU", {"CTR_SEARCH": "cpu"}),
}
CANDIDATES, LIFE, PER_S = 1_000, 100_000, 20
P99_MS, AIMED_AT_MS = 30, 5
NOTE = f"""\
Graphs run on the GPU, and so do the searches where nothing else is said. Wanted of the rows of {CANDIDATES:,} candidates and \
{LIFE:,} behaviours: p99 under {P99_MS} ms, {AIMED_AT_MS} aimed at. The other targets are those of two cores without a GPU.
"""
COMMAND = "make bench-gpu"
HOW_TO = "install onnxruntime-gpu in place of onnxruntime (README.md, Commands)"


def gpu_works(table: Sequence[Work] = TABLE, settings: Mapping[str, str] = ON_GPU) -> list[Work]:
    """The rows of the table as a GPU serves them, and every scan of it over long lives with many candidates."""
    on_gpu = [replace(work, serving=_on_gpu(work.serving, settings)) for work in table]
    scans = sorted({work.model for work in table if work.work == "scan"})
    long = replace(
        table[0], work="scan", behaviours=LIFE, per_s=PER_S, p99_ms=P99_MS, cpu_ms=None, life=LIFE, candidates=CANDIDATES
    )
    for name, (said, more) in WAYS.items():
        serving = Serving(f"gpu_{name}", {model: {} for model in scans}, {**settings, **more})
        on_gpu += [replace(long, work=f"scan of {CANDIDATES:,}{said}", model=model, serving=serving) for model in scans]
    return on_gpu


def bench_gpu(
    quick: bool = False, only: str = "", results: Path = RESULTS / "gpu", folder: Path = FOLDER, sizes: Sizes = SIZES,
    works: Sequence[Work] | None = None, lives: dict[int, int] = USERS, providers: Providers = "cuda",
    rounds: int = REPEATS, length: Length = LENGTH,
) -> Path:  # fmt: skip
    """Measure, and say where the table is.

    Args:
        as `bench_table`; providers: "cpu" goes the same way without a GPU, to see that all works.

    Raises:
        ValueError: there is no GPU, or no onnxruntime that can use it; the text says what is missing.
    """
    chosen = list(works or gpu_works())
    if providers == "cuda":
        if lacking := missing():
            raise ValueError(f"{COMMAND} needs a GPU: {'; '.join(lacking)}")
        check_cuda(bundles_of(BenchWorld(sizes), chosen[0].serving, folder))
    return bench_table(quick, only, results, folder, sizes, chosen, lives, COMMAND, NOTE, rounds, length)


def missing() -> list[str]:
    """What this machine lacks, as far as can be seen without trying."""
    lacking = []
    if not gpus():
        lacking.append("nvidia-smi lists no GPU")
    if CUDA not in (offered := onnxruntime.get_available_providers()):
        lacking.append(f"onnxruntime {onnxruntime.__version__} offers {', '.join(offered)}, not {CUDA}: {HOW_TO}")
    return lacking


def check_cuda(bundles: Path) -> None:
    """Load one graph: an onnxruntime that offers CUDA cannot use it where CUDA's libraries are missing.

    Raises:
        ValueError: it cannot.
    """
    folder = min(path for path in bundles.iterdir() if path.is_dir())
    Graph(Bundle(folder / versions(folder)[-1]), "cuda", 1)


def _on_gpu(serving: Serving, settings: Mapping[str, str]) -> Serving:
    """The same models on a GPU."""
    return Serving(f"gpu_{serving.name}", serving.models, {**serving.settings, **settings})
