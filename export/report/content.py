"""report.json: all figures of a data set in one place, from what runs, baselines and the public twin left.

    {"schema": 1, "data", "about", "made", "machine", "calibrated", "sample",
     "models": {name: {"auc", "gauc", "log_loss", "impressions", "users", "heavy", "first_time", "calibration",
                       "newest": {"50": .., "all": ..}, "whole_life", "consistency", "sample", "training"}},
     "baselines": {name: {"auc", .., "heavy", "first_time"}}, "public": {name: {"auc", .., "defects", "ours"}}}

`newest` stands where a model's search reads more than the newest list, `whole_life` and `consistency`
where it weighs what it retrieves. A figure that is not defined is null.
"""

import inspect
import json
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from export.baselines import baseline_scores
from export.data.dataset import Dataset
from export.data.prepare import READERS
from export.evaluate import LENGTHS, judge, past, sample_requests
from export.json_files import read_json
from export.models.registry import model_type
from export.report.evaluation import Parts
from export.report.machine import machine
from export.run import RUN_FILE, RUNS, write_json
from store.search import SEARCHES

SCHEMA = 1
BASELINES = Path("runs/baselines")
PUBLIC = Path("runs/fuxictr")
FIGURES = ("auc", "gauc", "log_loss", "impressions", "users")

Content = dict[str, Any]


def content(
    dataset: Dataset,
    parts: dict[str, Parts],
    sample: int | None,
    runs: Path = RUNS,
    baselines: Path = BASELINES,
    public: Path = PUBLIC,
) -> Content:
    """All figures; `parts` are the complete evaluations, by model."""
    data = dataset.schema.data
    models = {name: _model(name, own, read_json(runs / data / name / RUN_FILE)) for name, own in parts.items()}
    best_first = sorted(models, key=lambda name: models[name]["auc"] or 0.0, reverse=True)
    return {
        "schema": SCHEMA,
        "data": data,
        "about": about(data),
        "made": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "calibrated": dataset.facts["calibrated"],
        "sample": sample_requests(dataset.requests["test"], sample)[1],
        "models": {name: models[name] for name in best_first},
        "baselines": _baselines(dataset, sample, baselines / f"{data}.json"),
        "public": _public(dataset, public / data),
    }


def about(data: str) -> str:
    """What a data set is: the docstring of its reader; empty for a folder of one's own."""
    return inspect.getdoc(sys.modules[READERS[data].__module__]) or "" if data in READERS else ""


def _model(name: str, parts: Parts, facts: dict[str, Any]) -> Content:
    quality = parts["quality"]
    out: Content = {figure: quality["figures"][figure] for figure in FIGURES}
    out |= {subset: quality[subset] for subset in ("heavy", "first_time", "calibration")}
    cut = {str(length): parts[f"newest_{length}"] for length in LENGTHS if f"newest_{length}" in parts}
    if cut:
        out["newest"] = {**cut, "all": quality["figures"]}
    out |= {part: parts[part] for part in ("whole_life", "consistency") if part in parts}
    out["sample"] = quality["sample"]
    settings, config, kind = facts["settings"], facts["config"], model_type(name)
    out["training"] = {
        **{setting: settings[setting] for setting in ("days", "epochs", "requests_a_batch", "seed")},
        **{setting: config[setting] for setting in ("k", "recent", "trained_length")},
        "search": kind.search_name, "reads": SEARCHES[kind.search_name].reads,
        **{fact: facts[fact] for fact in ("requests", "impressions", "seconds")},
    }  # fmt: skip
    return out


def _baselines(dataset: Dataset, sample: int | None, path: Path) -> Content:
    """Figures of each baseline on the same requests; computed once for a data set and a sample."""
    fingerprint = f"{dataset.facts['fingerprint']} {sample}"
    kept = read_json(path)
    if kept.get("fingerprint") == fingerprint:
        figures: Content = kept["figures"]
        return figures
    test = dataset.requests["test"]
    requests, described = sample_requests(test, sample)
    before = past(dataset, requests)
    figures = {}
    for name, scores in baseline_scores(dataset).items():
        of_sample, _ = sample_requests(replace(test, label=scores), sample)  # the scores take the labels' place
        figures[name] = judge(requests, of_sample.label, before, described).as_json()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"fingerprint": fingerprint, "figures": figures})
    return figures


def _public(dataset: Dataset, folder: Path) -> Content:
    """Results of the public twin on this data, by model; results on other data are left out."""
    results = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    return {
        name: {
            **result["quality"],
            **{fact: result[fact] for fact in ("package", "version", "settings", "impressions", "planned", "seconds")},
            **{fact: result[fact] for fact in ("differences", "defects")},
            "ours": result.get("ours"),
        }
        for name, result in results.items()
        if result["fingerprint"] == dataset.facts["fingerprint"]
    }
