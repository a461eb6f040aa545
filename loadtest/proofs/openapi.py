"""Calls made by schemathesis from the OpenAPI description, valid ones and invalid ones: no answer is a 5xx.

Paths that name a model are aimed at one that there is; most others would end at a 404.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

from loadtest.proofs.system import ADMIN_KEY, FUZZED, Row, System

ALLOWED = {503, 504}  # that the contract names
ANSWERED = re.compile(r'^ctr_requests_total\{code="(\d+)",.*\} (\S+)$', re.MULTILINE)


def prove_openapi(system: System, examples: int, least: int) -> list[Row]:
    """At most so many cases an operation, beside those that cover each field, and `least` in all; the scorer's own
    counters say what it answered."""
    before = answers_of(system.url)
    run = made_calls(system.url, ADMIN_KEY, examples, FUZZED)
    return openapi_rows(run, {code: n - before.get(code, 0) for code, n in answers_of(system.url).items()}, least)


def made_calls(url: str, key: str, examples: int, model: str) -> dict[str, Any]:
    """Let schemathesis call a scorer; its report.

    Raises:
        ValueError: it did not come to its end; the text is its last words.
    """
    with urllib.request.urlopen(f"{url}/openapi.json", timeout=30) as answer:
        description = aimed(json.load(answer), model)
    with tempfile.TemporaryDirectory() as folder:
        described, report = Path(folder) / "openapi.json", Path(folder) / "report.json"
        described.write_text(json.dumps(description))
        command = [
            sys.executable, "-m", "schemathesis.cli", "run", str(described), "--url", url, "--max-examples", str(examples),
            "--phases", "coverage,fuzzing", "--checks", "not_a_server_error", "--continue-on-failure", "--no-shrink",
            "--seed", "1", "--suppress-health-check", "all", "--header", f"authorization: Bearer {key}", "--report", "json",
            "--report-json-path", str(report),
        ]  # fmt: skip
        done = subprocess.run(
            command, cwd=folder, env=os.environ | {"NO_COLOR": "1"}, capture_output=True, text=True, check=False
        )
        if not report.is_file():
            raise ValueError(f"schemathesis: {(done.stdout + done.stderr)[-1000:]}")
        read: dict[str, Any] = json.loads(report.read_text())
        return read


def aimed(description: dict[str, Any], model: str) -> dict[str, Any]:
    """The description with one name for the parameter `model` of paths."""
    for path in description["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "path" and parameter["name"] == "model":
                    parameter["schema"] = {"type": "string", "enum": [model]}
    return description


def answers_of(url: str) -> dict[int, int]:
    """How often the scorer has answered each status, by its own counters."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    counts: dict[int, int] = {}
    for code, count in ANSWERED.findall(text):
        counts[int(code)] = counts.get(int(code), 0) + int(float(count))
    return counts


def openapi_rows(report: dict[str, Any], answers: dict[int, int], least: int = 1) -> list[Row]:
    """Verdicts of a run."""
    cases, operations, seconds = report["test_cases"], report["operations"], report["running_time"]
    n, wrong = (
        cases["generated"],
        {code: count for code, count in answers.items() if code >= 500 and code not in ALLOWED and count},
    )
    said = ", ".join(f"{code} {count}" for code, count in sorted(answers.items()) if count)
    return [
        Row("made calls: answers of 5xx but 503 and 504", f"{sum(wrong.values())} ({said})", "0", n, seconds, not wrong),
        Row("made calls: cases", str(n), f"at least {least}", n, seconds, n >= least),
        Row("made calls: without an answer", str(cases["errored"]), "0", n, seconds, not cases["errored"]),
        Row("made calls: operations called", f"{operations['tested']} of {operations['total']}", "all", n, seconds,
            operations["tested"] == operations["total"]),
    ]  # fmt: skip
