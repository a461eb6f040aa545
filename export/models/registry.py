"""Models by name. A model is registered once, by the decorator on its class."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from export.models.contract import CTRModel, DataShape

_MODELS: dict[str, type[CTRModel]] = {}


def register(name: str) -> Callable[[type[CTRModel]], type[CTRModel]]:
    """Class decorator; a name taken twice is an error."""

    def add(model: type[CTRModel]) -> type[CTRModel]:
        if name in _MODELS:
            raise ValueError(f"model {name} is registered twice: {_MODELS[name].__name__} and {model.__name__}")
        _MODELS[name] = model
        return model

    return add


def list_models() -> list[str]:
    """Names of all models, in alphabetical order."""
    return sorted(_MODELS)


def model_type(name: str) -> type[CTRModel]:
    """The class of a model.

    Raises:
        ValueError: unknown name; the text lists the known ones.
    """
    if name not in _MODELS:
        raise ValueError(f"model {name!r}: known are {', '.join(list_models())}")
    return _MODELS[name]


def build(name: str, shape: DataShape, **config: Any) -> CTRModel:
    """A fresh model.

    Raises:
        ValueError: unknown model, or an unknown setting; the text lists the known ones.
    """
    kind = model_type(name)
    known = [field.name for field in fields(kind.config_type)]
    if unknown := sorted(set(config) - set(known)):
        raise ValueError(f"model {name}: no setting {', '.join(unknown)}; known are {', '.join(known)}")
    model: CTRModel = kind(shape, kind.config_type(**config))  # type: ignore[call-arg]
    return model
