"""Search consistency (TWIN, 5.4): does the search return what the attention would have looked at?

The ESU attends to the whole life. Of the 100 behaviours with the largest weight (mean over heads), so
many the search had returned. What is compared, by name:

    search       the model's own search
    merged       where heads search: one list by the mean over heads of the softmax of their relevance,
                 in place of a round robin over the heads' lists; as many behaviours
    ..._old      either, from tables one refresh old: their parameters are older than the ESU's

The same weights scored on the whole life give the figure to hold beside a search: `evaluate` with
`search=LifeSearch`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from export.data.dataset import Dataset
from export.data.histories import ClusteredHistory, History
from export.evaluate import SEED, Progress, no_progress, reads_beyond_newest
from export.models.contract import CTRModel
from export.precompute import item_tables
from store.bundle import ITEM_VECTOR
from store.graph_inputs import GraphInputs, cross_with_gap, search_inputs
from store.search import SEARCHES, Search
from store.search.life import LifeSearch
from store.search.projection import ProjectionSearch
from store.types import Behaviours, Candidates, Floats, Mask, Retrieved, Rows

OF = 100  # heaviest behaviours asked for
RANKS = (1, 2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100)
REQUESTS = 1000

Returned = Callable[[Candidates, Behaviours, Rows], Mask]  # bool [C, L] of a request and its bucketed cross features


@dataclass(frozen=True)
class Found:
    """What one search returned of the heaviest behaviours, mean over candidates."""

    of_100: float  # how many of the 100 heaviest
    share: list[float]  # of the n heaviest, for each n of RANKS


@dataclass(frozen=True)
class Consistency:
    """Consistency of a model's searches, by name, and what it was measured on."""

    found: dict[str, Found]
    kept: int  # K, what a search may return for a candidate
    requests: int
    candidates: int
    sample: str


def has_consistency(model: CTRModel | type[CTRModel]) -> bool:
    """Whether it searches beyond the newest list and weighs what it retrieved."""
    return model.explains and reads_beyond_newest(model)


def consistency(
    dataset: Dataset,
    model: CTRModel,
    old: CTRModel | None = None,
    requests: int = REQUESTS,
    split: str = "test",
    progress: Progress = no_progress,
) -> Consistency | None:
    """Consistency of a model on a seeded sample of the requests with more than 100 behaviours to search.

    Args:
        old: the same model with parameters one refresh older, if tables of it are to be searched too.
        requests: how many to sample; fewer where there are not so many.

    Returns:
        None where no request has more than 100 behaviours (clusters, for a search of clusters).
    """
    tables = item_tables(dataset.items, model)
    own = SEARCHES[model.search_name](model.search_spec, tables)
    searches = _searches(own, "")
    if old is not None and (own.item_tables or own.constants):
        searches |= _searches(type(own)(model.search_spec, item_tables(dataset.items, old)), "_old")
    history = ClusteredHistory(dataset, tables[ITEM_VECTOR], None) if own.clustered else History(dataset, None)
    asked = dataset.requests[split]
    hits = {name: np.zeros(OF) for name in searches}  # by rank
    done = candidates = 0
    for r in np.random.default_rng(SEED).permutation(len(asked)):
        user, at = int(asked.user[r]), int(asked.at[r])
        row, _ = asked.items(int(r))
        shown = Candidates(row, dataset.registry.category[row])
        behaviours, snapshot = history.behaviours(user, at), history.snapshot(user, at)
        if len(behaviours) <= OF or (snapshot is not None and len(snapshot.and_newer(behaviours)) <= OF):
            continue
        everything = LifeSearch(model.search_spec, {})
        searched, _, inputs = search_inputs(everything, shown, behaviours, at, model.config.recent, asked.context[r], snapshot)
        best = heaviest(attention(model, tables, inputs), OF)
        cross = cross_with_gap(searched, at)
        for name, search in searches.items():
            hits[name] += np.take_along_axis(search(shown, searched, cross), best, axis=1).sum(axis=0)
        candidates += len(row)
        done += 1
        progress(done, requests)
        if done == requests:
            break
    if not done:
        return None
    what = "clusters and newer behaviours" if own.clustered else "behaviours"
    return Consistency(
        found={name: _found(count / candidates) for name, count in hits.items()},
        kept=own.k, requests=done, candidates=candidates,
        sample=f"{done:,} {split} requests with more than {OF} {what}, {candidates:,} candidates, seed {SEED}",
    )  # fmt: skip


def attention(model: CTRModel, tables: dict[str, NDArray[Any]], inputs: GraphInputs) -> Floats:
    """Weights float32 [C, L], mean over heads, of one request whose candidates all retrieved the whole life."""
    feed = {name: torch.from_numpy(inputs[name]) for name in model.input_names}
    with torch.inference_mode():
        weight = model.eval()(torch.from_numpy(tables[ITEM_VECTOR]), feed).weight
    out: Floats = weight[0].numpy()
    return out


def heaviest(weight: Floats, count: int) -> NDArray[np.intp]:
    """The `count` behaviours of largest weight, heaviest first, equal weights newest first: [C, count] of float32 [C, L]."""
    newest_first = np.argsort(-weight[:, ::-1], axis=1, kind="stable")[:, :count]
    index: NDArray[np.intp] = weight.shape[1] - 1 - newest_first
    return index


def returned(retrieved: Retrieved, candidates: int, behaviours: int) -> Mask:
    """Whether each behaviour was retrieved for each candidate: bool [C, L]."""
    of_group = np.zeros((len(retrieved.index), behaviours), np.bool_)
    group, k = np.nonzero(retrieved.mask)
    of_group[group, retrieved.index[group, k]] = True
    place = retrieved.place.reshape(len(of_group), -1)  # [G, S]
    group, s = np.nonzero(place >= 0)
    out = np.zeros((candidates, behaviours), np.bool_)
    out[place[group, s]] = of_group[group]
    return out


def merged(search: ProjectionSearch, candidates: Candidates, behaviours: Behaviours, cross: Rows) -> Mask:
    """One list for all heads, by the mean of their softmax over the whole life: bool [C, L], K each.

    From the ESU's own parameters this ranks as its attention does. Cost: C H L numbers.
    """
    key, query = search.key_projection[behaviours.row], search.query_projection[candidates.row]  # [L, H, d], [C, H, d]
    relevance = np.einsum("chd,lhd->chl", query, key) + search.bias(behaviours, cross).T
    weight = np.exp(relevance - relevance.max(axis=-1, keepdims=True))
    mean = (weight / weight.sum(axis=-1, keepdims=True)).mean(axis=1)  # [C, L]
    out = np.zeros(mean.shape, np.bool_)
    np.put_along_axis(out, heaviest(mean, search.k), True, axis=1)
    return out


def _searches(search: Search, suffix: str) -> dict[str, Returned]:
    """The search, and its merged variant where several heads search."""

    def own(candidates: Candidates, behaviours: Behaviours, cross: Rows) -> Mask:
        return returned(search(candidates, behaviours, cross), len(candidates.row), len(behaviours))

    searches: dict[str, Returned] = {f"search{suffix}": own}
    if isinstance(search, ProjectionSearch) and search.key_projection.shape[1] > 1:
        searches[f"merged{suffix}"] = lambda *request: merged(search, *request)
    return searches


def _found(by_rank: NDArray[np.float64]) -> Found:
    """From the share of candidates whose n-th heaviest behaviour was returned, float64 [100]."""
    total = np.cumsum(by_rank)
    return Found(of_100=float(total[-1]), share=[float(total[n - 1] / n) for n in RANKS])
