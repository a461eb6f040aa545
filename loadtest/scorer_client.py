"""The smallest client that a script needs; the standard library only."""

import json
import urllib.error
import urllib.request
from typing import Any


class ScorerClient:
    """Talks to one scorer."""

    def __init__(self, url: str, timeout_s: float = 30) -> None:
        self.url, self._timeout_s = url, timeout_s

    def ready(self) -> bool:
        """Whether the scorer has a model to score with."""
        try:
            with urllib.request.urlopen(f"{self.url}/v2/health/ready", timeout=self._timeout_s) as reply:
                return bool(reply.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def score(self, request: dict[str, Any]) -> tuple[dict[str, Any], dict[str, float]]:
        """POST /score: the answer, and the server's stage times in ms.

        Raises:
            urllib.error.HTTPError: any status but 200.
        """
        call = urllib.request.Request(f"{self.url}/score", json.dumps(request).encode(), {"content-type": "application/json"})
        with urllib.request.urlopen(call, timeout=self._timeout_s) as reply:
            timing = reply.headers["server-timing"].split(", ")
            stages = {stage: float(value) for stage, value in (part.split(";dur=") for part in timing)}
            return json.load(reply), stages
