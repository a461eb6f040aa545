"""JSON as figures are kept in it: absent is empty, not a number is null."""

import json
from pathlib import Path
from typing import Any


def read_json(path: Path) -> dict[str, Any]:
    """The content of a file; empty where there is no such file, or it is no JSON."""
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return content


def kept_as_json(value: Any) -> Any:
    """The same with null for NaN, which JSON has not."""
    if isinstance(value, dict):
        return {name: kept_as_json(one) for name, one in value.items()}
    if isinstance(value, list):
        return [kept_as_json(one) for one in value]
    return None if isinstance(value, float) and value != value else value
