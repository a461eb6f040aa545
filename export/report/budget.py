"""How long each model is trained for the report: the one place where models are named.

All of a data set together stay within two hours on two cores, one model and one thread on each. K and L
are settings of the models themselves. Measured in process seconds on such a core: a pass over all of
complete_journey takes 1.5 minutes (mean_pool) to 12 (twin_v2), mimn at its one step of the cell for each
behaviour 30; over assist2017 2.5 to 19, mimn 60.
"""

from dataclasses import asdict, replace
from typing import Any

from export.run import TrainSettings

DEFAULT = TrainSettings()
ALL: dict[str, TrainSettings] = {  # data set -> budget of all its models, where it is not the default
    "complete_journey": TrainSettings(days=112),
    "assist2017": TrainSettings(days=6, requests_a_batch=128),  # a request shows one item there, on complete_journey about ten
}
OWN: dict[str, dict[str, dict[str, Any]]] = {  # data set -> model -> what is its own
    "complete_journey": {
        "mimn": {"days": None},
        "sim_hard": {"days": None},
        "eta": {"days": None},
        "twin": {"days": None},
    },
    "assist2017": {"mimn": {"days": 4}},
}
SAMPLES: dict[str, int] = {"assist2017": 20_000}  # test requests to evaluate on, where it is not all of them
OWN_SAMPLES: dict[str, int] = {"mimn": 6_000}  # the same for models whose evaluation would take the better part of an hour


def budget_of(data: str, model: str, days: int | None = None, epochs: int | None = None) -> TrainSettings:
    """The budget of a model on a data set; what is asked for goes before what the tables say."""
    asked = {name: value for name, value in (("days", days), ("epochs", epochs)) if value is not None}
    return replace(ALL.get(data, DEFAULT), **(OWN.get(data, {}).get(model, {}) | asked))


def sample_of(data: str, model: str, asked: int | None) -> int | None:
    """How many test requests to evaluate a model on; None = all. The least of what is asked for and what the tables say."""
    sizes = [size for size in (asked or SAMPLES.get(data), OWN_SAMPLES.get(model)) if size is not None]
    return min(sizes, default=None)


def options(settings: TrainSettings) -> list[str]:
    """What differs from the default, as options of `python -m export train`."""
    changed = {name: value for name, value in asdict(settings).items() if value != getattr(DEFAULT, name)}
    return [text for name, value in changed.items() for text in (f"--{name.replace('_', '-')}", str(value))]
