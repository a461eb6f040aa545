"""Attend (ESU) alone, on one core: target attention of 500 candidates to 100 behaviours each, 4 heads, width 64.

Ours as it is served (`export.list_graphs`): a graph makes queries of the candidates, projections folded; the kernel reads
each behaviour where it lies and multiplies with W_v; a graph multiplies with W_o. Beside it torch.nn.MultiheadAttention with
the same weights, exported: each candidate's behaviours gathered, and their keys and values projected.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.graph import write_graph
from export.layers.attention import HeadOutput, TargetAttention
from loadtest.kernels.turns import OURS, in_turns, one_thread
from loadtest.measured_on import table
from loadtest.served.bench_world import BenchWorld
from store.attention import attend, numbered
from store.search.workspace import aligned
from store.types import FIRST_KNOWN, Floats

DIM, HEADS, CANDIDATES, K, LIFE = 64, 4, 500, 100, 10_000
LISTS = {CANDIDATES: 4.5, 150: 2.5, 50: 2.5, 20: 2.5}  # lists that the candidates share -> ms of CPU that are wanted
TOLERANCE = 1e-4  # of vectors whose numbers are about 1: another order of summation


class _Queries(nn.Module):
    """Before the kernel: what each head of each candidate asks of a behaviour's vector."""

    def __init__(self, attention: TargetAttention) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, item_vector: Tensor, candidate_row: Tensor) -> Tensor:
        return self.attention.queries(nn.functional.embedding(candidate_row, item_vector)[None, None])[0, 0]


class _Exported(nn.Module):
    """The same attention as torch has it."""

    def __init__(self, attention: TargetAttention, out: HeadOutput) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(DIM, HEADS, bias=False, batch_first=True)
        parts = [part.transpose(1, 2).reshape(DIM, DIM) for part in (attention.query, attention.key, out.value)]
        self.attention.in_proj_weight = nn.Parameter(torch.cat(parts))
        self.attention.out_proj.weight = out.out.weight

    def forward(self, item_vector: Tensor, candidate_row: Tensor, retrieved_row: Tensor) -> Tensor:
        target = nn.functional.embedding(candidate_row, item_vector).unsqueeze(1)
        behaviour = nn.functional.embedding(retrieved_row, item_vector)
        attended: Tensor = self.attention(target, behaviour, behaviour, need_weights=False)[0]
        return attended.squeeze(1)


def attend_rows(world: BenchWorld, repeats: int) -> list[dict[str, Any]]:
    """Measure with lists of each candidate's own, and with shared ones. Cost: a quarter of a minute.

    Raises:
        ValueError: the two do not give the same.
    """
    return [_row(world, lists, repeats) | {"wanted_ms": wanted} for lists, wanted in LISTS.items()]


def attend_page(rows: list[dict[str, Any]]) -> str:
    """Rows as Markdown."""
    names = ["lists", "ours_ms", "wanted_ms", "ours_wall_ms", "library", "library_ms", "times"]
    cells = [[*(str(row[name]) for name in names), f"{row['apart']:.1g}"] for row in rows]
    return (
        "## Attend (ESU)\n\n"
        f"{CANDIDATES} candidates, {K} behaviours each of width {DIM}, {HEADS} heads; what was retrieved is given. `lists`: how "
        f"many different ones the candidates have, {CANDIDATES} = each its own. Beside it torch's MultiheadAttention with the "
        "same weights, exported; `apart`: the largest difference of an output.\n\n"
        + table([*(name.replace("_", " ") for name in names), "apart"], cells)
    )


def _row(world: BenchWorld, lists: int, repeats: int) -> dict[str, Any]:
    numbers, items = np.random.default_rng(lists), world.registry.item_rows
    item_vector = aligned(np.dtype(np.float32), (items, DIM))
    item_vector[:] = numbers.standard_normal(item_vector.shape, dtype=np.float32)
    candidate = numbers.integers(FIRST_KNOWN, items, CANDIDATES).astype(np.int32)
    life = world.life(0, LIFE).row
    index = np.sort(np.stack([numbers.choice(LIFE, K, replace=False) for _ in range(lists)]).astype(np.int32), axis=1)
    kept, place = numbered(index, size := np.full(lists, K, np.int32), LIFE)
    row, of = life[kept], (np.arange(CANDIDATES) % lists).astype(np.int32)
    nothing, beside = np.zeros((1, 0), np.float32), np.zeros(len(row), np.int32)

    torch.manual_seed(lists)
    attention, out = TargetAttention(DIM, 0, HEADS, DIM // HEADS).eval(), HeadOutput(HEADS, DIM, DIM // HEADS, DIM).eval()
    asked = {"item_vector": item_vector, "candidate_row": candidate}
    read = asked | {"retrieved_row": row[place][of]}
    before, after = _session(_Queries(attention), asked), _session(out.out, {"input": np.zeros((CANDIDATES, DIM), np.float32)})
    exported, value = _session(_Exported(attention, out), read), out.value.detach().numpy()

    def ours() -> Floats:
        (query,) = before.run(None, asked)
        pooled, *_ = attend(query, DIM, item_vector, row, nothing, beside, place, size, of, value)
        attended: Floats = after.run(None, {"input": pooled})[0]
        return attended

    def library() -> Floats:
        attended: Floats = exported.run(None, read)[0]
        return attended

    if (apart := float(np.abs(ours() - library()).max())) > TOLERANCE:
        raise ValueError(f"attention in {lists} lists differs from torch's by {apart:.2g}, at most {TOLERANCE:g} is rounding")
    return {"lists": lists, "apart": apart} | in_turns({OURS: ours, f"onnxruntime {ort.__version__}": library}, repeats)


def _session(module: nn.Module, inputs: dict[str, NDArray[Any]]) -> ort.InferenceSession:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        write_graph(module.eval(), map(torch.from_numpy, inputs.values()), list(inputs), ["attended"], path)
        return one_thread(path.read_bytes())
