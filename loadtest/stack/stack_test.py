"""python -m loadtest stack-test: the compose stack built, started and used as its README says, then removed.

It needs a container engine: `docker compose`, or whatever COMPOSE names.
"""

import json
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rich.console import Console

from export.models import list_models
from loadtest.scorer_client import ScorerClient
from loadtest.stack.compose import SERVICES, Compose, StackFailed
from loadtest.stack.world import DATA, make_stack_world

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
            compose("up", "-d", "--build", "--wait", *SERVICES, timeout_s=900)
        stack = Stack(compose, json.loads((folder / "runs/workload.json").read_text())[0])
        for check, what in stack.checks:
            with _step(what):
                check()
    except StackFailed:
        console.print(_logs(compose), markup=False, highlight=False, soft_wrap=True)
        raise
    finally:
        with _step("down -v"):
            compose("--profile", "*", "down", "-v", "--remove-orphans")


@contextmanager
def _step(what: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    console.print(f"   {time.monotonic() - started:5.1f} s  {what}", highlight=False)


class Stack:
    """The running stack, and what must be so of it. Every check raises StackFailed where it is not."""

    def __init__(self, compose: Compose, request: dict[str, Any]) -> None:
        self._compose, self._request = compose, request
        self._client = ScorerClient(compose.url("SCORER_PORT"))

    @property
    def checks(self) -> list[tuple[Callable[[], None], str]]:
        """All of them, in order."""
        return [
            (self.scores, "every model scores from the host"),
            (self.kernels, "no kernel was compiled after the build"),
            (self.events, "an event is in the next score, by /events and by the stream"),
            (self.page, "the page answers"),
            (self.locust, "locust: headless, and its page"),
            (self.prometheus, "Prometheus scrapes, has the rules, and understands every panel"),
            (self.outage, "store stopped and started: every answer 200"),
        ]

    def scores(self) -> None:
        """Each model, one probability for each candidate."""
        for model in list_models():
            answer, _ = self._client.score({**self._request, "model": model})
            scores = answer["scores"]
            if answer["degraded"] or len(scores) != len(self._request["item_ids"]) or not all(0 < score < 1 for score in scores):
                raise StackFailed(f"{model}: {answer['degraded']}, {len(scores)} scores, the first {scores[:3]}")

    def kernels(self) -> None:
        """A scorer begins with the image's cache, and adds what it has to compile itself."""
        count = "for folder in /app/numba /tmp/numba; do find $folder -name '*.nbc' | wc -l; done"
        built, there = map(int, self._compose("exec", "-T", "scorer", "sh", "-c", count).split())
        if not 0 < built == there:
            raise StackFailed(f"kernels: {built} in the image, {there} after a score of each model")

    def events(self) -> None:
        """Acknowledged by HTTP is in the next score; what the stream has comes within seconds."""
        now = int(time.time())
        _call(f"{self._client.url}/events", {"events": [{"user_id": USER, "item_id": ITEM, "ts": now - 2}]})
        if now - 2 not in (seen := self._seen()):
            raise StackFailed(f"an event that was acknowledged is not in the next score: {seen}")
        event = json.dumps({"user_id": USER, "item_id": ITEM, "ts": now - 1})
        self._compose("exec", "-T", "store", "valkey-cli", "XADD", f"{DATA}:events", "*", "data", event)
        _until(lambda: now - 1 in self._seen(), "an event of the stream is not in the scores")

    def _seen(self) -> list[int]:
        """Times of the behaviours that a score of USER attends to."""
        answer, _ = self._client.score({"user_id": USER, "item_ids": [ITEM], "model": "din", "explain": 20})
        return [one["ts"] for one in answer["explanations"][0]]

    def page(self) -> None:
        """/ui is served."""
        if "Why is this item first?" not in _read(f"{self._client.url}/ui"):
            raise StackFailed("/ui is not the page")

    def locust(self) -> None:
        """It ends with another status than 0 if one answer is not whole."""
        said = self._compose(
            "run", "--rm", "--no-deps", "-T", "locust", "--headless", "-t", f"{LOAD_S}s", "--json", "--skip-log-setup"
        )
        if not any(one["num_requests"] for one in json.loads(said)):
            raise StackFailed("locust sent no request")
        _read(self._compose.url("LOCUST_PORT"))

    def prometheus(self) -> None:
        """With the promtool of its image, and by its own API."""
        for command in (("check", "config", "prometheus.yml"), ("test", "rules", "alerts_test.yml")):
            self._compose("exec", "-T", "-w", "/etc/prometheus", "prometheus", "promtool", *command)
        for job in ("scorer", "consumer"):
            _until(lambda job=job: self._values(f'up{{job="{job}"}}') == ["1"], f"{job} is not scraped")  # type: ignore[misc]
        _until(lambda: bool(self._values('ctr_requests_total{route="/score", code="200"} > 0')), "Prometheus has no scores")
        if not json.loads(_read(f"{self._compose.url('PROMETHEUS_PORT')}/api/v1/rules"))["data"]["groups"]:
            raise StackFailed("Prometheus has no rules")
        for panel in json.loads(DASHBOARD.read_text())["panels"]:
            for target in panel.get("targets", []):
                self._values(target["expr"].replace("$__rate_interval", "1m").replace("$__range", "1h"))

    def _values(self, expression: str) -> list[str]:
        """What Prometheus answers; an error where it cannot read the expression."""
        answer = _read(f"{self._compose.url('PROMETHEUS_PORT')}/api/v1/query?query={quote(expression)}")
        return [one["value"][1] for one in json.loads(answer)["data"]["result"]]

    def outage(self) -> None:
        """Calls go on all the while; what is counted is what they were answered."""
        answers: list[object] = []
        stop = threading.Event()

        def call() -> None:
            while not stop.is_set():
                try:
                    answers.append(tuple(self._client.score({**self._request, "model": "sim_hard"})[0]["degraded"]))
                except OSError as error:
                    answers.append(error)

        caller = threading.Thread(target=call)
        caller.start()
        try:
            self._compose("stop", "store")
            _until(lambda: answers[-1:] == [("store_down",)], "the answers do not say that the store is down")
            self._compose("start", "store")
            _until(lambda: answers[-1:] == [()], "the behaviours do not come back")
        finally:
            stop.set()
            caller.join()
        if failed := [one for one in answers if isinstance(one, Exception)]:
            raise StackFailed(f"{len(failed)} of {len(answers)} calls failed while the store was away, the first: {failed[0]}")
        console.print(f"            {len(answers)} calls, {sum(one != () for one in answers)} of them degraded", highlight=False)


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
