"""python -m loadtest stack-test: the compose stack built, started and used as its README says, then removed.

It needs a container engine: `docker compose`, or whatever COMPOSE names.
"""

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rich.console import Console

from export.models import list_models
from loadtest.compose import Compose, StackFailed
from loadtest.scorer_client import ScorerClient
from loadtest.stack_world import make_stack_world

FOLDER = Path("runs/stack")
DASHBOARD = Path("service/deploy/grafana/dashboards/longtrail.json")
LOAD_S = 8
USER, ITEM = "stack-test", "1082185"

console = Console(stderr=True)


def stack_test() -> None:
    """All of it, one step after the other; what was started is removed, whatever happens.

    Raises:
        StackFailed: a step did not do what it should.
    """
    with _step("a bundle of every model, random weights"):
        folder = make_stack_world(FOLDER, console)
    compose = Compose(folder)
    try:
        with _step("build, up --wait"):
            compose("up", "-d", "--build", "--wait", timeout_s=900)
        client = ScorerClient(compose.url("SCORER_PORT"))
        for does, what in (
            (_scores, "every model scores from the host"), (_kernels, "no kernel was compiled after the build"),
            (_events, "an event is in the next score, by /events and by the stream"), (_page, "the page answers"),
            (_locust, "locust: headless, and its page"), (_prometheus, "Prometheus scrapes, has the rules and every panel"),
            (_outage, "store stopped and started: every answer 200"),
        ):  # fmt: skip
            with _step(what):
                does(compose, client)
    except StackFailed:
        console.print(_logs(compose), markup=False, highlight=False)
        raise
    finally:
        with _step("down -v"):
            compose("--profile", "*", "down", "-v", "--remove-orphans")


@contextmanager
def _step(what: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    console.print(f"   {time.monotonic() - started:5.1f} s  {what}", highlight=False)


def _scores(compose: Compose, client: ScorerClient) -> None:
    request = json.loads((FOLDER / "runs/workload.json").read_text())[0]
    for model in list_models():
        answer, _ = client.score({**request, "model": model})
        scores = answer["scores"]
        if answer["degraded"] or len(scores) != len(request["item_ids"]) or not all(0 < score < 1 for score in scores):
            raise StackFailed(f"{model}: {answer['degraded']}, {len(scores)} scores, the first {scores[:3]}")


def _kernels(compose: Compose, client: ScorerClient) -> None:
    """The scorer copies the image's cache and adds what it had to compile itself."""
    script = "cd /app/numba && find . -name '*.nbi' | sort > /tmp/a; cd /tmp/numba && find . -name '*.nbi' | sort > /tmp/b; "
    script += "test -s /tmp/a && diff /tmp/a /tmp/b; cd /app/numba && find . -name '*.nbc' | wc -l; cd /tmp/numba && find . -name '*.nbc' | wc -l"
    built, there = compose("exec", "-T", "scorer", "sh", "-c", script).split()[-2:]
    if built != there:
        raise StackFailed(f"kernels: the image was built with {built}, the scorer has {there} after one score of each model")


def _events(compose: Compose, client: ScorerClient) -> None:
    now = int(time.time())
    _call(f"{client.url}/events", {"events": [{"user_id": USER, "item_id": ITEM, "ts": now - 2}]})
    if now - 2 not in _seen(client):
        raise StackFailed(f"an event that was acknowledged is not in the next score: {_seen(client)}")
    event = json.dumps({"user_id": USER, "item_id": ITEM, "ts": now - 1})
    compose("exec", "-T", "store", "valkey-cli", "XADD", "complete_journey:events", "*", "data", event)
    _until(lambda: now - 1 in _seen(client), "an event of the stream is not in the scores")


def _seen(client: ScorerClient) -> list[int]:
    """Times of the behaviours that a score of USER attends to."""
    answer, _ = client.score({"user_id": USER, "item_ids": [ITEM], "model": "din", "explain": 20})
    return [one["ts"] for one in answer["explanations"][0]]


def _page(compose: Compose, client: ScorerClient) -> None:
    if "Why is this item first?" not in _read(f"{client.url}/ui"):
        raise StackFailed("/ui is not the page")


def _locust(compose: Compose, client: ScorerClient) -> None:
    """It ends with another status than 0 if one answer is not whole."""
    compose("run", "--rm", "-T", "locust", "--headless", "-t", f"{LOAD_S}s", "--only-summary")
    _read(compose.url("LOCUST_PORT"))


def _prometheus(compose: Compose, client: ScorerClient) -> None:
    compose("exec", "-T", "prometheus", "promtool", "check", "config", "/etc/prometheus/prometheus.yml")
    compose("exec", "-T", "prometheus", "promtool", "test", "rules", "/etc/prometheus/alerts_test.yml")
    ask = f"{compose.url('PROMETHEUS_PORT')}/api/v1"

    def value(expression: str) -> list[Any]:
        found: list[Any] = json.loads(_read(f"{ask}/query?query={quote(expression)}"))["data"]["result"]
        return found

    for job in ("scorer", "consumer"):
        _until(lambda job=job: [one["value"][1] for one in value(f'up{{job="{job}"}}')] == ["1"], f"{job} is not scraped")  # type: ignore[misc]
    _until(lambda: bool(value('ctr_requests_total{route="/score", code="200"} > 0')), "Prometheus has no scores of the scorer")
    if not json.loads(_read(f"{ask}/rules"))["data"]["groups"]:
        raise StackFailed("Prometheus has no rules")
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            value(target["expr"].replace("$__rate_interval", "1m"))  # 400, and so an error, where it cannot be read


def _outage(compose: Compose, client: ScorerClient) -> None:
    """Calls go on all the while; what is counted is what they were answered."""
    request = json.loads((FOLDER / "runs/workload.json").read_text())[0]
    answers: list[object] = []
    stop = threading.Event()

    def call() -> None:
        while not stop.is_set():
            try:
                answers.append(tuple(client.score({**request, "model": "sim_hard"})[0]["degraded"]))
            except urllib.error.HTTPError as error:
                answers.append(error.code)

    caller = threading.Thread(target=call)
    caller.start()
    try:
        compose("stop", "store")
        _until(lambda: answers[-1] == ("store_down",), "the answers do not say that the store is down")
        compose("start", "store")
        _until(lambda: answers[-1] == (), "the behaviours do not come back")
    finally:
        stop.set()
        caller.join()
    if failed := [one for one in answers if isinstance(one, int)]:
        raise StackFailed(f"{len(failed)} of {len(answers)} calls were answered {sorted(set(failed))} while the store was away")
    console.print(f"           {len(answers)} calls, {sum(one != () for one in answers)} of them degraded", highlight=False)


def _until(condition: Callable[[], bool], complaint: str, limit_s: float = 60) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            raise StackFailed(f"{complaint}, after {limit_s:g} s")
        time.sleep(0.2)


def _read(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=30) as reply:
            text: str = reply.read().decode()
            return text
    except OSError as error:
        raise StackFailed(f"{url}: {error}") from error


def _call(url: str, body: object) -> None:
    call = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(call, timeout=30) as reply:
        reply.read()


def _logs(compose: Compose) -> str:
    try:
        return compose("logs", "--no-color", "--tail", "40")
    except StackFailed as error:
        return str(error)
