"""Ray Serve: replicas behind its HTTP proxy, on a Ray of its own that ends with it."""

import os
import tempfile
import threading
from typing import Any

import ray
from ray import serve
from starlette.requests import Request

from loadtest.peers.apps.in_memory import PORT, WORKERS, InMemoryScorer


@serve.deployment(num_replicas=int(os.environ[WORKERS]), ray_actor_options={"num_cpus": 1})
class Scores:
    """A deployment by the documented form."""

    def __init__(self) -> None:
        self.scorer = InMemoryScorer()

    async def __call__(self, request: Request) -> dict[str, Any]:
        """Score."""
        return {"scores": self.scorer.score(await request.json())}


def main() -> None:
    """Serve until killed, and whoever does that kills the rest of Ray too."""
    workers = int(os.environ[WORKERS])
    small: dict[str, Any] = {"include_dashboard": False, "object_store_memory": 100 * 2**20, "log_to_driver": False}
    ray.init(num_cpus=workers + 1, _temp_dir=tempfile.gettempdir(), **small)
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ[PORT])})
    serve.run(Scores.bind(), route_prefix="/score")  # type: ignore[attr-defined]
    threading.Event().wait()


if __name__ == "__main__":
    main()
