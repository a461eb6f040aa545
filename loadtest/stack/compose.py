"""docker compose as a test drives it: one project of its own, ports that nobody else has."""

import os
import shlex
import subprocess
from pathlib import Path

from loadtest.service_process import free_port

PROJECT = "longtrail-stack-test"
SERVICES = ("scorer", "consumer", "prometheus", "locust")  # and what they depend on; not Grafana: its dashboard is read here
PORTS = ("SCORER_PORT", "PROMETHEUS_PORT", "LOCUST_PORT")


class StackFailed(RuntimeError):
    """The stack is not as it should be; the text is for the user."""


class Compose:
    """Commands of one project, over the folder that its seed reads."""

    def __init__(self, folder: Path) -> None:
        self._command = [*shlex.split(os.environ.get("COMPOSE", "docker compose")), "-p", PROJECT]
        self.ports = {name: free_port() for name in PORTS}
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith(("CTR_", "LOCUST_"))} | {
            "LONGTRAIL_FOLDER": str(folder.resolve()),
            "CTR_TIMEOUT_MS": "5000",  # it is tested that scores come: how fast is another test's
            "CTR_STORE_TIMEOUT_MS": "1000",
            **{name: str(port) for name, port in self.ports.items()},
        }

    def __call__(self, *arguments: str, timeout_s: float = 600) -> str:
        """Run a command; its standard output.

        Raises:
            StackFailed: it ended with another status than 0; the text has the end of what it said.
        """
        try:
            done = subprocess.run(
                [*self._command, *arguments], env=self._environment, capture_output=True, text=True, timeout=timeout_s
            )  # fmt: skip
        except FileNotFoundError as error:
            raise StackFailed(f"there is no {error.filename}: docker with compose is needed, or its name in COMPOSE") from None
        except subprocess.TimeoutExpired:
            raise StackFailed(f"{' '.join(arguments)}: still not done after {timeout_s:g} s") from None
        if done.returncode:
            raise StackFailed(f"{' '.join(arguments)}: status {done.returncode}\n{(done.stdout + done.stderr)[-3000:]}")
        return done.stdout

    def url(self, port: str) -> str:
        """Where a published port is."""
        return f"http://127.0.0.1:{self.ports[port]}"
