"""make bench PART=kernels: the exact searches, and attention, on one core beside what one would take from a library, in one run;
and what options of onnxruntime's sessions cost.

Each search runs whole, with the gathering of what it reads; libraries get their arrays ready-made, signatures indexed
and keys transposed. They take turns, so that both see the same machine. Milliseconds are of CPU, `wall` beside it.
Lives and candidates are those of the speed table's users, who repeat their items; and lives in which no item comes
twice, where nothing can be shared. Tables are random. Writes loadtest/results/kernels.json and kernels.md.
faiss is compared with where it is installed: pip install 'longtrail[kernels]'.
"""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper
from rich.console import Console
from rich.progress import track

from loadtest.kernels.attention import attend_page, attend_rows
from loadtest.kernels.sessions import session_page, session_rows
from loadtest.kernels.turns import OURS, Runs, in_turns, one_thread
from loadtest.measured_on import FOLDER, RESULTS, facts, table
from loadtest.served.bench_world import BenchWorld
from store.search import SEARCHES, SearchSpec
from store.types import FIRST_KNOWN, Behaviours

CANDIDATES, CATEGORIES, K = 500, 150, 100
REPEATS = 15
GAPS = 46  # buckets of the time gap
WORK = {  # model -> search, heads, numbers a head, whether there is a bias, behaviours
    "eta": ("hamming", 0, 0, False, (10_000, 100_000)),
    "sim_soft": ("projection", 1, 32, False, (10_000, 100_000)),
    "twin": ("projection", 4, 16, True, (700, 4_000, 10_000)),
    "twin, merged": ("projection", 1, 64, True, (10_000, 100_000)),
}


def bench_kernels(results: Path = RESULTS, folder: Path = FOLDER) -> Path:
    """Measure, and say where the table is. Cost: about two minutes, and half of one more the first time."""
    world = BenchWorld()
    work = [(model, length, repeats) for model in WORK for length in WORK[model][-1] for repeats in (True, False)]
    content: dict[str, Any] = {
        "schema": 1,
        **facts(),
        "candidates": CANDIDATES,
        "k": K,
        "repeats": REPEATS,
        "rows": [_row(world, *one) for one in track(work, "kernels", console=Console(stderr=True))],
        "attend": attend_rows(world, REPEATS),
        "sessions": session_rows(world, folder, REPEATS),
    }
    results.mkdir(parents=True, exist_ok=True)
    (results / "kernels.json").write_text(json.dumps(content, indent=1) + "\n")
    (results / "kernels.md").write_text(_page(content))
    return results / "kernels.md"


def _row(world: BenchWorld, model: str, length: int, repeats: bool) -> dict[str, Any]:
    kind, heads, width, biased, _ = WORK[model]
    numbers, items = np.random.default_rng(length), world.registry.item_rows
    life = world.life(0, length) if repeats else _all_different(numbers, items, length)
    candidates, row = world.registry.candidates(world.candidates(0, CANDIDATES, CATEGORIES, 0)), life.row
    cross = numbers.integers(0, GAPS, (length, 1)).astype(np.int32)
    if kind == "hamming":
        tables: dict[str, Any] = {"signature": numbers.integers(0, 2**64, items, dtype=np.uint64)}
        other = _faiss(tables["signature"], candidates.row, row)
    else:
        key = numbers.standard_normal((items, heads, width), dtype=np.float32)
        query = key / np.float32(width**0.5)
        bias = numbers.standard_normal((1, GAPS, heads), dtype=np.float32) * np.float32(biased)
        tables = {"key_projection": key, "query_projection": query, "cross_bias": bias}
        other = _onnxruntime(query[candidates.row], key[row])
    search = SEARCHES[kind](SearchSpec(name=kind, k=K), tables)
    found = in_turns({OURS: lambda: search(candidates, life, cross), **other}, REPEATS)
    return {"work": f"{model}, {length:,}", "items": len(np.unique(row)), **found}


def _all_different(numbers: np.random.Generator, items: int, length: int) -> Behaviours:
    """A life in which no item comes twice."""
    row = numbers.permutation(items - FIRST_KNOWN)[:length].astype(np.int32) + FIRST_KNOWN
    return Behaviours(row, np.full(length, 2, np.int32), np.arange(length, dtype=np.int64), np.zeros((length, 0), np.uint8))


def _faiss(signature: "np.ndarray[Any, np.dtype[np.uint64]]", candidates: Any, row: Any) -> Runs:
    """A flat binary index on one thread; nothing where faiss is not installed."""
    if importlib.util.find_spec("faiss") is None:
        return {}
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.IndexBinaryFlat(64)
    index.add(signature[row].view(np.uint8).reshape(-1, 8))
    targets = signature[candidates].view(np.uint8).reshape(-1, 8)
    return {f"faiss {faiss.__version__}": lambda: index.search(targets, K)}


def _onnxruntime(query: "np.ndarray[Any, np.dtype[np.float32]]", key: "np.ndarray[Any, np.dtype[np.float32]]") -> Runs:
    """MatMul and TopK per head on one thread, without the union of the heads."""
    queries = np.ascontiguousarray(query.transpose(1, 0, 2))  # [H, C, d_k]
    keys = np.ascontiguousarray(key.transpose(1, 2, 0))  # [H, d_k, L]
    nodes = [helper.make_node("MatMul", ["q", "k"], ["r"]), helper.make_node("TopK", ["r", "n"], ["v", "i"], sorted=0)]
    graph = helper.make_graph(
        nodes, "search",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 3) for name in "qk"],
        [helper.make_tensor_value_info("i", TensorProto.INT64, [None] * 3)],
        [helper.make_tensor("n", TensorProto.INT64, [1], [K])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    session = one_thread(model.SerializeToString())
    return {f"onnxruntime {ort.__version__}": lambda: session.run(None, {"q": queries, "k": keys})}


def _page(content: dict[str, Any]) -> str:
    """The table as Markdown."""
    cells = [
        [str(cell) for cell in (
            row["work"], f"{row['items']:,}",
            row["ours_ms"], row["ours_wall_ms"], row.get("library", "not installed"), row.get("library_ms", ""),
            row.get("times", ""),
        )]
        for row in content["rows"]
    ]  # fmt: skip
    return "\n".join([
        f"# Search kernels\n\n{content['made']}, {content['machine']}, load before {content['load_before']}, commit "
        f"{content['commit']}. `make bench PART=kernels` measures again.\n",
        f"{content['candidates']} candidates, K = {content['k']}, one thread; medians of {content['repeats']}, in turns; ms of "
        "CPU, `times` the median of the ratios. Ours gathers what it reads and unites the heads' lists; faiss is given an "
        "index, onnxruntime (MatMul, TopK) the keys transposed, and neither breaks ties nor unites.\n",
        table(["work, behaviours", "different items", "ours ms", "wall ms", "library", "library ms", "times"], cells),
        attend_page(content["attend"]), session_page(content["sessions"]),
    ])  # fmt: skip
