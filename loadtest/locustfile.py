"""Locust users for POST /score. Needs a workload file, which `make demo` leaves in runs/workload.json.

    locust -f loadtest/locustfile.py --host http://127.0.0.1:8000 [--model twin]

Closed loop: a user sends its next request when the last one is answered.
"""

import itertools
import json
import os
import random
from pathlib import Path

from locust import FastHttpUser, constant, events, task


@events.init_command_line_parser.add_listener
def _arguments(parser, **_):
    parser.add_argument("--workload", default=os.environ.get("LONGTRAIL_WORKLOAD", "runs/workload.json"), help="requests to send")
    parser.add_argument(
        "--model", default=os.environ.get("LONGTRAIL_MODEL", ""), help="model to ask for; empty = the server's default"
    )
    parser.add_argument("--figures", default="", help="write p50, p99, rps and errors to this JSON file at the end")


@events.test_start.add_listener
def _read_workload(environment, **_):
    requests = json.loads(Path(environment.parsed_options.workload).read_text())
    if environment.parsed_options.model:
        requests = [{**request, "model": environment.parsed_options.model} for request in requests]
    random.Random(0).shuffle(requests)
    environment.bodies = itertools.cycle([json.dumps(request) for request in requests])


@events.quitting.add_listener
def _write_figures(environment, **_):
    path = environment.parsed_options.figures
    if path:
        total = environment.stats.total
        figures = {
            "requests": total.num_requests,
            "errors": total.num_failures,
            "p50_ms": total.get_response_time_percentile(0.5),
            "p99_ms": total.get_response_time_percentile(0.99),
            "rps": round(total.total_rps, 1),
        }
        Path(path).write_text(json.dumps(figures))


class Ranker(FastHttpUser):
    """A ranking tier: one request after the other, each checked."""

    wait_time = constant(0)
    headers = {"content-type": "application/json"}  # noqa: RUF012

    def on_start(self):
        if key := os.environ.get("CTR_API_KEY"):
            self.headers = {**self.headers, "authorization": f"Bearer {key}"}

    @task
    def score(self):
        body = next(self.environment.bodies)
        with self.client.post("/score", data=body, headers=self.headers, catch_response=True) as response:
            if response.status_code != 200:
                response.failure(f"{response.status_code}: {response.text[:200]}")
            elif response.json()["degraded"]:
                response.failure(f"degraded: {response.json()['degraded']}")
