"""LitServe: the API in worker processes, requests reach them through a queue."""

import os
from typing import Any

import litserve

from loadtest.peers.apps.in_memory import PORT, WORKERS, InMemoryScorer


class Scores(litserve.LitAPI):
    """The documented four steps; decoding the request is LitServe's own."""

    def setup(self, device: str) -> None:
        """In each worker."""
        self.scorer = InMemoryScorer()

    def predict(self, body: dict[str, Any]) -> list[float]:
        """Score."""
        return self.scorer.score(body)

    def encode_response(self, output: list[float]) -> dict[str, list[float]]:
        """The answer."""
        return {"scores": output}


if __name__ == "__main__":
    server = litserve.LitServer(Scores(api_path="/score"), accelerator="cpu", workers_per_device=int(os.environ[WORKERS]))
    server.run(host="127.0.0.1", port=int(os.environ[PORT]), log_level="warning", generate_client_file=False)
