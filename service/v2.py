"""The Open Inference Protocol, version 2: the same scorer for clients of Triton and KServe.

    POST /v2/models/<model>[/versions/<version>]/infer
        inputs      user_id  BYTES or INT64 [1] or [1, 1]         item_ids  BYTES or INT64 [C] or [1, C]
        parameters  at, timeout_ms, context_<name>; of Triton's own, `timeout` (microseconds) is kept too, the others do nothing
        outputs     scores   FP32, of the shape of item_ids

Tensors are lists in JSON, or bytes behind it: `Inference-Header-Content-Length` says where the JSON ends, and each tensor's
`binary_data_size` how many bytes are its own, in the order of the inputs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import orjson

from service.errors import InvalidRequest, UnknownModel
from service.request import ScoreRequest, check, read_object
from service.scores import ScoreResponse
from store.ids import MAX_ID_BYTES

HEADER_LENGTH = "inference-header-content-length"
USER, ITEMS, SCORES = "user_id", "item_ids", "scores"
BYTES, INT64, FP32 = "BYTES", "INT64", "FP32"
CONTEXT = "context_"
OURS = ("at", "timeout_ms")
TRITONS = ("binary_data_output", "priority", "sequence_id", "sequence_start", "sequence_end", "timeout")

PLATFORM = "onnxruntime_onnx"
EXTENSIONS = ["binary_tensor_data", "model_repository"]


@dataclass(frozen=True, slots=True)
class Infer:
    """A call of infer in the scorer's terms, and how it wants its answer."""

    request: ScoreRequest
    shape: list[int]  # of item_ids, and so of the scores
    binary: bool  # scores as bytes behind the JSON


def metadata(model: str, versions: list[str], calibrated: bool) -> dict[str, Any]:
    """What GET /v2/models/<model> says."""
    return {
        "name": model, "versions": versions, "platform": PLATFORM,
        "inputs": [
            {"name": USER, "datatype": BYTES, "shape": [1]},
            {"name": ITEMS, "datatype": BYTES, "shape": [-1]},
        ],
        "outputs": [{"name": SCORES, "datatype": FP32, "shape": [-1]}],
        "parameters": {"calibrated": calibrated},
    }  # fmt: skip


def parse(body: bytes, header_length: str | None, model: str, max_candidates: int) -> Infer:
    """Read a call.

    Args:
        header_length: the header of that name, None = all is JSON.
        model: as the path has it: name, or name:version.

    Raises:
        InvalidJson: no JSON. InvalidRequest: a tensor is missing, not of its shape, or of a datatype that is none of an id's;
        a parameter or an output that there is not; and what /score refuses.
    """
    head, raw = _parts(body, header_length)
    content = read_object(head)
    tensors = _tensors(content, raw, max_candidates)
    fields: dict[str, Any] = {"model": model, "context": {}}
    for name, value in _object(content, "parameters").items():
        if name in OURS:
            fields[name] = value
        elif name.startswith(CONTEXT):
            fields["context"][name.removeprefix(CONTEXT)] = value
        elif name == "timeout" and type(value) is int:
            fields.setdefault("timeout_ms", value / 1000 or None)
        elif name not in TRITONS:
            raise InvalidRequest(f"parameters.{name}: unknown, known are {', '.join(OURS)} and {CONTEXT}<name>", "parameters")
    if content.get("id"):
        fields["request_id"] = content["id"]
    (user, _), (items, shape) = tensors[USER], tensors[ITEMS]
    request = check(ScoreRequest, fields | {"user_id": user[0], "item_ids": items}, ITEMS, max_candidates)
    return Infer(request, shape, _wants_binary(content))


def answer(infer: Infer, response: ScoreResponse, request_id: str) -> tuple[bytes, dict[str, str]]:
    """The body of a 200 and its headers, the media type among them."""
    scores = np.ascontiguousarray(response.scores, "<f4")
    output: dict[str, Any] = {"name": SCORES, "datatype": FP32, "shape": infer.shape}
    content = {
        "model_name": response.model, "model_version": response.version, "id": request_id,
        "parameters": {
            "degraded": ",".join(response.degraded), "behaviours": response.behaviours, "unknown_items": response.unknown_items,
        },
        "outputs": [output],
    }  # fmt: skip
    if not infer.binary:
        output["data"] = scores
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), {"content-type": "application/json"}
    output["parameters"] = {"binary_data_size": scores.nbytes}
    head = orjson.dumps(content)
    return head + scores.tobytes(), {"content-type": "application/octet-stream", HEADER_LENGTH: str(len(head))}


def named(model: str, version: str = "") -> str:
    """A model of a path as a request names it.

    Raises:
        UnknownModel: a colon in either would ask for something else.
    """
    if ":" in model or ":" in version:
        raise UnknownModel(f"model {model!r}: no name or version has a colon", "model")
    return f"{model}:{version}" if version else model


def _parts(body: bytes, header_length: str | None) -> tuple[bytes, bytes]:
    """The JSON, and the bytes behind it."""
    if header_length is None:
        return body, b""
    if not header_length.isascii() or not header_length.isdigit() or len(header_length) > 9 or int(header_length) > len(body):
        raise InvalidRequest(f"{HEADER_LENGTH}: {header_length[:20]!r}, the body has {len(body)} bytes", HEADER_LENGTH)
    return body[: int(header_length)], body[int(header_length) :]


def _object(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = content.get(name, {})
    if not isinstance(value, dict):
        raise InvalidRequest(f"{name}: an object is needed", name)
    return value


def _tensors(content: dict[str, Any], raw: bytes, most: int) -> dict[str, tuple[list[Any], list[int]]]:
    """Values and shape of both inputs, by name."""
    listed = content.get("inputs")
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise InvalidRequest("inputs: a list of tensors is needed", "inputs")
    names = [one.get("name") for one in listed]
    if sorted(map(str, names)) != [ITEMS, USER]:
        raise InvalidRequest(f"inputs: {', '.join(map(str, names))}; needed are {USER} and {ITEMS}, each once", "inputs")
    found, at = {}, 0
    for one in listed:
        name, shape = one["name"], _shape(one, most)
        size = _object(one, "parameters").get("binary_data_size")
        if size is None:
            found[name] = (_flat(one, shape), shape)
            continue
        if type(size) is not int or not 0 <= size <= len(raw) - at:
            raise InvalidRequest(f"{name}: binary_data_size {size}, {len(raw) - at} bytes are left", name)
        found[name] = (_from_bytes(one, raw[at : at + size], shape), shape)
        at += size
    if at != len(raw):
        raise InvalidRequest(f"inputs: {len(raw) - at} bytes belong to no tensor", "inputs")
    return found


def _shape(tensor: Mapping[str, Any], most: int) -> list[int]:
    name, shape = tensor["name"], tensor.get("shape")
    whole = isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape)
    if not isinstance(shape, list) or not whole or len(shape) not in (1, 2) or shape[:-1] not in ([], [1]):
        raise InvalidRequest(f"{name}: shape {str(shape)[:100]}, [n] or [1, n] is needed", name)
    if name == USER and shape[-1] != 1:
        raise InvalidRequest(f"{name}: {shape[-1]}, one is needed", name)
    if shape[-1] > most:
        raise InvalidRequest(f"{name}: {shape[-1]}, limit {most}", name)
    return list(shape)


def _flat(tensor: Mapping[str, Any], shape: list[int]) -> list[Any]:
    """The values of a tensor in JSON; they may be nested as the shape is."""
    name, values = tensor["name"], tensor.get("data")
    if isinstance(values, list) and len(shape) == 2 and len(values) == 1 and isinstance(values[0], list):
        values = values[0]
    if not isinstance(values, list) or len(values) != prod(shape):
        count = len(values) if isinstance(values, list) else "none"
        raise InvalidRequest(f"{name}: {count} values, shape {shape} has {prod(shape)}", name)
    kind = {BYTES: str, INT64: int}[_datatype(tensor)]
    for position, value in enumerate(values):
        if type(value) is not kind:
            raise InvalidRequest(f"{name}[{position}]: {str(value)[:100]!r} is not {tensor['datatype']}", name)
    return values


def _from_bytes(tensor: Mapping[str, Any], raw: bytes, shape: list[int]) -> list[Any]:
    """The values of a tensor in bytes: int64, or each text behind its length as uint32, little endian both."""
    name, count = tensor["name"], prod(shape)
    if _datatype(tensor) == INT64:
        if len(raw) != 8 * count:
            raise InvalidRequest(f"{name}: {len(raw)} bytes, shape {shape} has {8 * count}", name)
        numbers: list[int] = np.frombuffer(raw, "<i8").tolist()
        return numbers
    texts: list[str] = []
    at = 0
    while at < len(raw) and len(texts) < count:
        length = int.from_bytes(raw[at : at + 4], "little")
        text = raw[at + 4 : at + 4 + length]
        if len(text) != length or len(raw) - at < 4 or length > MAX_ID_BYTES:
            raise InvalidRequest(f"{name}[{len(texts)}]: {length} bytes, an id has 1 to {MAX_ID_BYTES}", name)
        try:
            texts.append(text.decode())
        except UnicodeDecodeError:
            raise InvalidRequest(f"{name}[{len(texts)}]: not valid UTF-8", name) from None
        at += 4 + length
    if len(texts) != count or at != len(raw):
        raise InvalidRequest(f"{name}: {len(texts)} values in {len(raw)} bytes, shape {shape} has {count}", name)
    return texts


def _datatype(tensor: Mapping[str, Any]) -> str:
    datatype = tensor.get("datatype")
    if datatype not in (BYTES, INT64):
        raise InvalidRequest(f"{tensor['name']}: datatype {str(datatype)[:100]}, {BYTES} or {INT64} is needed", tensor["name"])
    return str(datatype)


def _wants_binary(content: dict[str, Any]) -> bool:
    """Whether the scores shall come as bytes."""
    listed = content.get("outputs", [])
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise InvalidRequest("outputs: a list of objects is needed", "outputs")
    if other := [one.get("name") for one in listed if one.get("name") != SCORES]:
        raise InvalidRequest(f"outputs: {str(other[0])[:100]} is none, there is {SCORES}", "outputs")
    every = _object(content, "parameters").get("binary_data_output", False)
    return bool(_object(listed[0], "parameters").get("binary_data", every) if listed else every)
