"""The Open Inference Protocol, by a client that is not ours: what the unmodified tritonclient is answered, /score answers too."""

import hashlib
import json
import math
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import Distribution, distribution
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import tritonclient.http as triton
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from loadtest.proofs.system import CROWDED, MODEL, Row, system
from loadtest.scorer_client import ScorerClient
from loadtest.served.bench_setup import Serving
from loadtest.served.bench_world import LAST_TS

CLIENT, REQUESTS = "tritonclient", 20  # of each model
MODELS = (MODEL, "mean_pool", "eta", "twin", "sdim")  # searches and reads of the store differ
SERVING = Serving("protocol", {model: {} for model in MODELS}, {})
AT = LAST_TS + 1  # an answer to the clock would be another one a second later
FORMS = {"JSON": False, "binary tensors": True}


@dataclass
class Compared:
    """Calls of infer beside calls of /score for the same users and candidates."""

    scores: int = 0
    others: list[str] = field(default_factory=list)  # what differs, or was not answered
    took_s: list[float] = field(default_factory=list)


def prove_protocol(folder: Path) -> list[Row]:
    """Metadata, live, ready and infer of several models, by JSON and by binary tensors."""
    with system(folder, CROWDED, direct=True, serving=SERVING) as one:
        requests = [json.loads(body) | {"at": AT} for body in one.requests[:REQUESTS]]
        return [changed_row(distribution(CLIENT)), *rows_of(one.url, MODELS, requests)]


def changed_row(installed: Distribution) -> Row:
    """Whether a package is what its publisher made: every file has the digest that stands in its record."""
    started = time.perf_counter()
    recorded = [(file, file.hash) for file in installed.files or [] if file.hash]
    changed = [str(file) for file, stated in recorded if _digest(Path(str(file.locate())), stated.mode) != stated.value]
    what = f"{installed.name} {installed.version}: files that were changed"
    seconds = time.perf_counter() - started
    return Row(what, _first(changed), "0", len(recorded), seconds, bool(recorded) and not changed)


def rows_of(url: str, models: Sequence[str], requests: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Ask a scorer what there is, and for the scores of each request by each model. `requests`: of /score, `at` included."""
    scorer, started = ScorerClient(url), time.perf_counter()
    client = triton.InferenceServerClient(url.removeprefix("http://"), network_timeout=60, connection_timeout=60)
    try:
        checks = _checks(client, models)
        asked_s = time.perf_counter() - started
        owns = {model: [scorer.score({**request, "model": model})[0] for request in requests] for model in models}
        forms = {form: compare(client, owns, requests, binary) for form, binary in FORMS.items()}
    finally:
        client.close()
    empty = [f"{model}: {why}" for model, answers in owns.items() for own in answers if (why := worthless(own))]
    n, candidates = len(requests) * len(models), len(requests[0]["item_ids"])
    seconds, wrong = time.perf_counter() - started, [what for what, met in checks.items() if not met]
    of = f"{len(models)} models, {candidates} candidates"
    return [
        Row("live, ready, metadata of server and models: not as stated", _first(wrong), "0", len(checks), asked_s, not wrong),
        Row(f"{of}: answers of /score that prove nothing", _first(empty), "0", n, seconds, not empty),
        *(
            Row(
                f"{of}, {form}: answers other than those of /score",
                f"{_first(found.others)} ({found.scores:,} scores are the same; median {median(found.took_s) * 1000:.0f} ms)",
                "0", n, sum(found.took_s), not found.others and found.scores == n * candidates,
            )
            for form, found in forms.items()
        ),
    ]  # fmt: skip


def compare(
    client: triton.InferenceServerClient,
    owns: Mapping[str, Sequence[Mapping[str, Any]]],
    requests: Sequence[Mapping[str, Any]],
    binary: bool,
) -> Compared:
    """Ask for each request again by infer, tensors in this form both ways. `owns`: what /score answered, by model."""
    found = Compared()
    for model, answers in owns.items():
        for own, request in zip(answers, requests, strict=True):
            tensors = [_tensor("user_id", [request["user_id"]], binary), _tensor("item_ids", request["item_ids"], binary)]
            scores, started = triton.InferRequestedOutput("scores", binary_data=binary), time.perf_counter()
            try:
                result = client.infer(model, tensors, outputs=[scores], parameters={"at": request["at"]})
            except InferenceServerException as error:
                found.others.append(f"{model}: {error}")
                continue
            finally:
                found.took_s.append(time.perf_counter() - started)
            if differs := other(own, result.get_response(), result.as_numpy("scores")):
                found.others.append(f"{model}: {differs}")
            else:
                found.scores += len(own["scores"])
    return found


def other(own: Mapping[str, Any], answer: Mapping[str, Any], scores: NDArray[np.float32] | None) -> str:
    """What infer answered otherwise than /score; empty = nothing."""
    said = (answer["model_name"], answer["model_version"], answer["parameters"])
    wanted = {"degraded": ",".join(own["degraded"]), "behaviours": own["behaviours"], "unknown_items": own["unknown_items"]}
    if said != (own["model"], own["version"], wanted):
        return f"{said}, /score: {(own['model'], own['version'], wanted)}"
    own_scores = np.array(own["scores"], np.float32)
    if scores is None or scores.dtype != np.float32 or not np.array_equal(scores, own_scores):
        return f"scores of {own['model']} differ"
    return ""


def worthless(own: Mapping[str, Any]) -> str:
    """Why being equal to this answer of /score says nothing; empty = it does."""
    if own["degraded"] or not own["behaviours"]:
        return f"behaviours {own['behaviours']}, degraded {own['degraded']}"
    if not all(map(math.isfinite, own["scores"])) or len(set(own["scores"])) < 2:
        return "scores are all the same, or not finite"
    return ""


def _checks(client: triton.InferenceServerClient, models: Sequence[str]) -> dict[str, bool]:
    """What is asked beside scores, and whether the answer is as the protocol and /score have it."""
    server = client.get_server_metadata()
    checks = {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "server metadata": server["name"] == "longtrail" and "binary_tensor_data" in server["extensions"],
        "a model that is not there is not ready": not client.is_model_ready("nobody"),
    }
    for model in models:
        told = client.get_model_metadata(model)
        (version,) = told["versions"]
        checks[f"{model}: ready"] = client.is_model_ready(model) and client.is_model_ready(model, version)
        checks[f"{model}: metadata"] = told == client.get_model_metadata(model, version) and told["name"] == model
        checks[f"{model}: inputs"] = _tensors(told["inputs"]) == [("user_id", "BYTES", [1]), ("item_ids", "BYTES", [-1])]
        checks[f"{model}: outputs"] = _tensors(told["outputs"]) == [("scores", "FP32", [-1])]
    return checks


def _tensors(told: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, list[int]]]:
    return [(one["name"], one["datatype"], one["shape"]) for one in told]


def _tensor(name: str, texts: Sequence[str], binary: bool) -> triton.InferInput:
    tensor = triton.InferInput(name, [len(texts)], "BYTES")
    return tensor.set_data_from_numpy(np.array(texts, object), binary_data=binary)


def _digest(path: Path, how: str) -> str:
    if not path.is_file():
        return "not there"
    return urlsafe_b64encode(hashlib.new(how, path.read_bytes()).digest()).rstrip(b"=").decode()


def _first(wrong: Sequence[str]) -> str:
    return f"{len(wrong)}: {wrong[0]}" if wrong else "0"
