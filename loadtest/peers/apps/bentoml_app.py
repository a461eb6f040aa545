"""BentoML: a service with so many workers, started by `bentoml serve`."""

import os
import sys
from typing import Any

import bentoml

from loadtest.peers.apps.in_memory import PORT, WORKERS, InMemoryScorer


@bentoml.service(workers=int(os.environ[WORKERS]), logging={"access": {"enabled": False}})
class Scores:
    """A service by the documented form: parameters are the fields of the body."""

    def __init__(self) -> None:
        self.scorer = InMemoryScorer()

    @bentoml.api(route="/score")
    def score(self, user_id: str, item_ids: list[str], model: str, context: dict[str, Any]) -> dict[str, list[float]]:
        """Score."""
        return {"scores": self.scorer.score({"user_id": user_id, "item_ids": item_ids, "model": model})}


if __name__ == "__main__":
    command = ["bentoml", "serve", "loadtest.peers.apps.bentoml_app:Scores", "--host", "127.0.0.1", "--port", os.environ[PORT]]
    os.execv(sys.executable, [sys.executable, "-m", *command, "--working-dir", os.getcwd()])
