"""What /openapi.json says of paths whose bodies are read by hand."""

import json
from typing import Any

from pydantic import BaseModel

from service.problems import PROBLEM


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """How the API's description shows a body that is read by hand; definitions inside it, not beside the whole."""
    schema = model.model_json_schema()
    inner = schema.pop("$defs", {})
    text = json.dumps(schema)
    for name, definition in inner.items():
        text = text.replace(json.dumps({"$ref": f"#/$defs/{name}"}), json.dumps(definition))
    return {"required": True, "content": {"application/json": {"schema": json.loads(text)}}}


def _problems(texts: dict[int, str]) -> dict[int | str, dict[str, Any]]:
    return {status: {"description": text, "content": {PROBLEM: {}}} for status, text in texts.items()}


LISTING = [
    {"name": name, "in": "query", "required": False, "description": text, "schema": {"type": kind}}
    for name, kind, text in (
        ("limit", "integer", "Behaviours of an answer, 100 where it is absent."),
        ("after", "string", "The `next` of an answer: goes on where that one ended."),
    )
]
SCORES = {
    "request_id": "r1", "model": "twin", "version": "20260131T120000Z", "scores": [0.031, 0.27],
    "degraded": [], "unknown_items": 0, "behaviours": 10000,
}  # fmt: skip
SCORE_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "One probability per candidate, in order", "content": {"application/json": {"example": SCORES}}},
    **_problems({
        400: "malformed JSON", 401: "no or wrong key", 404: "unknown model", 413: "body too large", 415: "not JSON",
        422: "invalid request", 429: "no free slot", 503: "no model is loaded", 504: "deadline exceeded",
    }),
}  # fmt: skip
EVENT_RESPONSES: dict[int | str, dict[str, Any]] = {
    202: {"description": "All are stored", "content": {"application/json": {"example": {"accepted": 2, "duplicates": 0}}}},
    **{status: SCORE_RESPONSES[status] for status in (400, 401, 413, 415, 429)},
    **_problems({
        422: "an event is invalid; nothing was written", 503: "the store did not acknowledge; send the call again",
        504: "deadline exceeded; nothing was written",
    }),
}  # fmt: skip
_USER = {"name": "user_id", "shape": [1], "datatype": "BYTES", "data": ["1228"]}
_ITEMS = {"name": "item_ids", "shape": [2], "datatype": "BYTES", "data": ["1095275", "9878513"]}
INFER_BODY = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "object", "required": ["inputs"],
                "properties": {
                    "id": {"type": "string"}, "parameters": {"type": "object"},
                    "inputs": {"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "object"}},
                    "outputs": {"type": "array", "items": {"type": "object"}},
                },
                "examples": [{"inputs": [_USER, _ITEMS]}],
            }
        }
    },
}  # fmt: skip
V2_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": SCORE_RESPONSES[status]["description"],
        "content": {"application/json": {"example": {"error": "..."}}},
    }
    for status in (400, 401, 404, 413, 415, 422, 429, 503, 504)
}
