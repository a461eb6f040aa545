"""Step 1, request: bytes -> what is asked, in the model's own terms."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import numpy as np
import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from service.errors import InvalidJson, InvalidRequest
from store.bundle import Bundle
from store.ids import InvalidId, canonical_id, canonical_ids
from store.types import MAX_TS, UNKNOWN, Candidates, Rows

MAX_EXPLAIN = 20
LOOK = MAX_EXPLAIN + 1  # as no body can ask: the page is to be told all that the search picked


def _ids(values: object) -> object:
    """Canonical forms of a list of ids, in one pass: a thousand candidates are common."""
    if not isinstance(values, list):
        return values
    try:
        return canonical_ids(values)
    except InvalidId as error:
        raise ValueError(str(error)) from None


def _id(value: object) -> str:
    try:
        return canonical_id(value)
    except InvalidId as error:
        raise ValueError(str(error)) from None


Body = TypeVar("Body", bound=BaseModel)
Id = Annotated[str, BeforeValidator(_id, json_schema_input_type=int | str)]


class ScoreRequest(BaseModel):
    """One user and the candidates to score for them."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"user_id": "1228", "item_ids": ["1095275", "9878513", "1041453"], "model": "twin"}]},
    )

    user_id: Id = Field(description='An int64, or a text of 1 to 128 UTF-8 bytes; 7 and "7" are one id.')
    item_ids: Annotated[list[str], BeforeValidator(_ids, json_schema_input_type=list[int | str])] = Field(
        min_length=1,
        description="Candidates, duplicates allowed; scores come in this order.",
        json_schema_extra={"minItems": 1},
    )
    model: str | None = Field(None, description="A name, name:label or name:version.")
    timeout_ms: float | None = Field(None, gt=0, description="Shortens the server's own limit.")
    at: int | None = Field(None, ge=0, le=MAX_TS, description="Unix seconds of the impression; only behaviours before it count.")
    context: dict[str, Any] = Field(default_factory=dict, description="Values of the model's context features.")
    explain: int = Field(0, ge=0, le=MAX_EXPLAIN, description="Heaviest behaviours to return for each candidate.")
    request_id: str | None = Field(None, min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+$", description="Comes back.")


@dataclass(frozen=True, slots=True)
class Call:
    """A request in the terms of one bundle."""

    user_id: str
    candidates: Candidates
    at: int  # impression time, Unix seconds
    before: int | None  # only behaviours with ts below this; None = all
    context: Rows  # [F]
    explain: int
    unknown_items: int
    looked_at: bool = False  # what the search picked is to be told, whether the model has weights or not


def parse(body: bytes, max_candidates: int) -> ScoreRequest:
    """Read a body of /score; raises as `read_as`."""
    return read_as(ScoreRequest, body, "item_ids", max_candidates)


def read_as(model: type[Body], body: bytes, field: str, limit: int) -> Body:
    """Read a JSON body whose list `field` may have so many entries; raises as `read_object` and `check`."""
    return check(model, read_object(body), field, limit)


def read_object(body: bytes) -> dict[str, Any]:
    """A body as a JSON object.

    Raises:
        InvalidJson: no JSON; NaN and Infinity are none either.
        InvalidRequest: JSON, and no object.
    """
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidJson(str(error)) from None
    if not isinstance(content, dict):
        raise InvalidRequest(f"body: {type(content).__name__}, an object is needed", "body")
    return content


def check(model: type[Body], content: dict[str, Any], field: str, limit: int) -> Body:
    """The object as `model`; the length of its list `field` is looked at before the entries are.

    Raises:
        InvalidRequest: a field is missing, of a wrong type or out of range.
    """
    listed = content.get(field)
    if isinstance(listed, list) and len(listed) > limit:
        raise InvalidRequest(f"{field}: {len(listed)}, limit {limit}", field)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise _first(error) from None


def understand(request: ScoreRequest, bundle: Bundle) -> Call:
    """Look the candidates up and settle time and context.

    Raises:
        InvalidRequest: a context name that the bundle does not know.
    """
    schema = bundle.manifest.schema_
    if request.context:
        _check_context(request.context, schema.context_names)
    at = int(time.time()) if request.at is None else request.at
    candidates = bundle.registry.candidates(request.item_ids)
    return Call(
        user_id=request.user_id,
        candidates=candidates,
        at=at,
        before=request.at,
        context=schema.encode_context(request.context, at),
        explain=request.explain if bundle.manifest.explains else 0,
        unknown_items=int(np.count_nonzero(candidates.row == UNKNOWN)),
        looked_at=request.explain == LOOK,
    )


def _check_context(given: Mapping[str, object], known: list[str]) -> None:
    for name, value in given.items():
        if name not in known:
            raise InvalidRequest(f"context.{name}: unknown, known are {', '.join(known) or 'none'}", f"context.{name}")
        if not isinstance(value, int | float | str | None):
            raise InvalidRequest(f"context.{name}: one value is needed", f"context.{name}")


def _first(error: ValidationError) -> InvalidRequest:
    """The first fault, naming the field and, where there are two, both numbers."""
    fault = error.errors(include_url=False)[0]
    field = ".".join(map(str, fault["loc"]))
    value, limits = fault.get("input"), fault.get("ctx", {})
    if "actual_length" in limits:
        value = limits["actual_length"]
    elif "max_length" in limits and isinstance(value, str):
        value = len(value)
    bound = next((limits[name] for name in ("le", "ge", "gt", "lt", "max_length", "min_length") if name in limits), None)
    if bound is not None and isinstance(value, int | float):
        hint = " (milliseconds?)" if field.endswith(("at", "ts")) and value > MAX_TS else ""
        return InvalidRequest(f"{field}: {value}, limit {bound}{hint}", field)
    message = str(fault["msg"]).removeprefix("Value error, ")
    if type(value) in (int, float):
        message = f"{value}: {message}"
    return InvalidRequest(f"{field}{message}" if message.startswith("[") else f"{field}: {message}", field)
