"""What /openapi.json says beyond what the framework finds out: bodies that are read by hand, answers and errors with examples."""

import json
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from service.problems import PROBLEM

Responses = dict[int | str, dict[str, Any]]

JSON, OCTETS = "application/json", "application/octet-stream"
PUBLIC = ("/v2/health/live", "/v2/health/ready", "/metrics")  # beside pages and files, which are not listed
OLDER, VERSION, NEWER = "20260124T120000Z", "20260131T120000Z", "20260207T120000Z"

_EXAMPLES = {  # title and detail, as errors.py has them
    400: ("malformed JSON", "unexpected end of data: line 1 column 2 (char 1)"),
    401: ("no or wrong key", "authorization: a bearer key is needed"),
    403: ("not the admin key", "authorization: the admin key is needed, this is the scoring key"),
    404: ("unknown model", f"model 'twn': known are twin:{VERSION}"),
    409: ("labels not kept", "/bundles/twin/labels.json: [Errno 30] Read-only file system"),
    413: ("body too large", "body: 2000000 bytes, limit 1000000"),
    415: ("unsupported media type", "content-type: text/plain, application/json is needed"),
    422: ("invalid request", "item_ids: 1200, limit 1000"),
    429: ("no free slot", "in flight: 64, limit 64"),
    503: ("no model is loaded", "no bundle is loaded"),
    504: ("deadline exceeded", "search: 251.3 ms since arrival, limit 250"),
}
_PROBLEM_SCHEMA = {
    "type": "object", "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"}, "title": {"type": "string"}, "status": {"type": "integer"}, "detail": {"type": "string"},
        "field": {"type": "string"},
    },
}  # fmt: skip
_ERROR_SCHEMA = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}


def body_of(model: type[BaseModel], required: bool = True) -> dict[str, Any]:
    """How the API's description shows a body that is read by hand; definitions inside it, not beside the whole."""
    schema = model.model_json_schema()
    inner = schema.pop("$defs", {})
    text = json.dumps(schema)
    for name, definition in inner.items():
        text = text.replace(json.dumps({"$ref": f"#/$defs/{name}"}), json.dumps(definition))
    return {"required": required, "content": {JSON: {"schema": json.loads(text)}}}


def answer(example: Any, status: int = 200, said: str = "As asked") -> Responses:
    """A good answer, by its example."""
    return {status: {"description": said, "content": {JSON: {"example": example}}}}


def problems(*statuses: int, **said: str) -> Responses:
    """Errors as problem+json; `said`: s404="..." in place of the title."""
    found: Responses = {}
    for status in statuses:
        title, detail = _EXAMPLES[status]
        example = {"type": "about:blank", "title": title, "status": status, "detail": detail}
        content = {PROBLEM: {"schema": _PROBLEM_SCHEMA, "example": example}}
        found[status] = {"description": said.get(f"s{status}", title), "content": content}
    return found


def v2_errors(*statuses: int) -> Responses:
    """Errors as clients of the Open Inference Protocol read them."""
    return {
        status: {
            "description": _EXAMPLES[status][0],
            "content": {JSON: {"schema": _ERROR_SCHEMA, "example": {"error": _EXAMPLES[status][1]}}},
        }
        for status in statuses
    }


def describe(app: FastAPI) -> None:
    """Add to the description of a finished application that calls carry a key."""
    found = app.openapi()  # it keeps what it made
    found.setdefault("components", {})["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer", "description": "CTR_API_KEY; on admin paths CTR_ADMIN_API_KEY."}
    }
    for path, methods in found["paths"].items():
        for operation in methods.values() if path not in PUBLIC else ():
            operation["security"] = [{"key": []}]


LISTING = [
    {"name": name, "in": "query", "required": False, "description": text, "schema": {"type": kind}}
    for name, kind, text in (
        ("limit", "integer", "Behaviours of an answer, 100 where it is absent."),
        ("after", "string", "The `next` of an answer: goes on where that one ended."),
    )
]

SCORE_RESPONSES = answer({
    "request_id": "r1", "model": "twin", "version": VERSION, "scores": [0.031, 0.27],
    "degraded": [], "unknown_items": 0, "behaviours": 10000,
}, said="One probability per candidate, in order") | problems(400, 401, 404, 413, 415, 422, 429, 503, 504)  # fmt: skip
EVENT_RESPONSES = answer({"accepted": 2, "duplicates": 0}, 202, "All are stored") | problems(
    400, 401, 413, 415, 422, 429, 503, 504, s422="an event is invalid; nothing was written",
    s503="the store did not acknowledge; send the call again", s504="deadline exceeded; nothing was written",
)  # fmt: skip
BEHAVIOURS_RESPONSES = answer({
    "user_id": "1228", "total": 2120, "bad_records": 0,
    "behaviours": [{"item_id": "1082185", "category": "TROPICAL FRUIT", "ts": 1511726535, "buckets": {"price": 3}}],
    "next": "1511726535-17",
}, said="The newest first") | problems(
    401, 422, 429, 503, 504, s503="the store did not answer", s504="deadline exceeded; nothing was read",
)  # fmt: skip
DELETE_RESPONSES = answer({"user_id": "1228", "removed": True}) | problems(
    401, 403, 404, 422, 429, 503, 504, s404="there are no admin paths", s503="the store did not answer",
    s504="deadline exceeded; nothing was removed",
)  # fmt: skip

_USER = {"name": "user_id", "shape": [1], "datatype": "BYTES", "data": ["1228"]}
_ITEMS = {"name": "item_ids", "shape": [2], "datatype": "BYTES", "data": ["1095275", "9878513"]}
_TENSOR = {
    "type": "object", "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"enum": ["user_id", "item_ids"]}, "datatype": {"enum": ["BYTES", "INT64"]},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "maxItems": 2},
        "data": {"type": "array"}, "parameters": {"type": "object"},
    },
}  # fmt: skip
INFER: dict[str, Any] = {
    "parameters": [{
        "name": "Inference-Header-Content-Length", "in": "header", "required": False, "schema": {"type": "integer"},
        "description": "Bytes of the JSON, where tensors follow it as bytes.",
    }],
    "requestBody": {"required": True, "content": {
        JSON: {"schema": {
            "type": "object", "required": ["inputs"],
            "properties": {
                "id": {"type": "string"}, "parameters": {"type": "object"},
                "inputs": {"type": "array", "minItems": 2, "maxItems": 2, "items": _TENSOR},
                "outputs": {"type": "array", "items": {"type": "object"}},
            },
            "examples": [{"id": "r1", "inputs": [_USER, _ITEMS], "parameters": {"timeout_ms": 30}}],
        }},
        OCTETS: {"schema": {"type": "string", "format": "binary"}},
    }},
}  # fmt: skip
INFER_RESPONSES: Responses = {
    200: {"description": "One probability per candidate, in order; as bytes where that is asked for", "content": {
        JSON: {"example": {
            "model_name": "twin", "model_version": VERSION, "id": "r1",
            "parameters": {"degraded": "", "behaviours": 10000, "unknown_items": 0},
            "outputs": [{"name": "scores", "datatype": "FP32", "shape": [2], "data": [0.031, 0.27]}],
        }},
        OCTETS: {"schema": {"type": "string", "format": "binary"}},
    }},
    **v2_errors(400, 401, 404, 413, 415, 422, 429, 503, 504),
}  # fmt: skip
SERVER = answer({
    "name": "longtrail", "version": "0.1.0", "extensions": ["binary_tensor_data", "model_repository"],
}) | v2_errors(401)  # fmt: skip
MODEL = answer({
    "name": "twin", "versions": [OLDER, VERSION], "platform": "onnxruntime_onnx",
    "inputs": [{"name": "user_id", "datatype": "BYTES", "shape": [1]}, {"name": "item_ids", "datatype": "BYTES", "shape": [-1]}],
    "outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1]}], "parameters": {"calibrated": False},
}) | v2_errors(401, 404, 422, 503)  # fmt: skip
READY = (
    answer({"ready": True, "models": ["twin"]}, said="Ready")
    | answer({"ready": False, "models": ["twin"]}, 503, "No bundle is loaded, or the scorer is about to end")
)  # fmt: skip
MODEL_READY = answer({"name": "twin", "version": VERSION, "ready": True}, said="Loaded") | v2_errors(401, 404, 422, 503)

_ADMIN = (400, 401, 403, 404, 413, 415, 422, 504)
INDEX = answer([
    {"name": "twin", "version": OLDER, "state": "UNAVAILABLE", "reason": "not loaded"},
    {"name": "twin", "version": VERSION, "state": "READY", "reason": ""},
]) | v2_errors(*_ADMIN)  # fmt: skip
LOAD = answer({"name": "twin", "version": VERSION}, said="It answers from the next request on") | v2_errors(*_ADMIN, 409)
UNLOAD = answer({}) | v2_errors(*_ADMIN, 409)
LABELS = {"stable": OLDER, "canary": {"version": VERSION, "percent": 5.0}, "shadow": NEWER}
LABELS_GOT = answer(LABELS) | problems(401, 403, 404, 422)
LABELS_PUT = answer(LABELS, said="They hold from the next request on") | problems(*_ADMIN, 409)
