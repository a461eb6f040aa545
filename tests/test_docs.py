"""Documents that list things list what is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted(p for p in [*ROOT.glob("*.md"), *ROOT.glob("*/README.md")] if not p.is_relative_to(ROOT / "runs"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(document):
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_the_readme_names_every_model_with_its_file():
    from export.models import list_models

    text = (ROOT / "README.md").read_text()
    assert [name for name in list_models() if f"`{name}`" not in text] == []


def test_the_readme_names_every_target_of_the_makefile():
    targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
    text = (ROOT / "README.md").read_text()
    assert [target for target in targets if f"make {target}" not in text and target != "help"] == []


LOADTEST = [f"loadtest/{folder}" for folder in ("fleet", "kernels", "peers", "served", "speed", "stack", "storing")]


@pytest.mark.parametrize("folder", ["service", "store", "export", "loadtest", *LOADTEST])
def test_the_readme_of_a_package_names_every_file_of_it(folder):
    text = (ROOT / folder.partition("/")[0] / "README.md").read_text()
    files = {path.name for path in (ROOT / folder).glob("*.py")} - {"__init__.py", "__main__.py"}
    assert sorted(name for name in files if f"{name}`" not in text and f"{name})" not in text) == []


def test_the_readme_names_every_service_of_the_stack():
    import yaml

    stack = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    text = (ROOT / "README.md").read_text()
    assert [name for name in stack["services"] if f"`{name}`" not in text] == []
    profiles = {profile for service in stack["services"].values() for profile in service.get("profiles", [])}
    assert [profile for profile in sorted(profiles) if f"--profile {profile}`" not in text] == []


def routes_listed():
    """(method, path) of every route in the table, names of parameters left out; a path without a method has the one before it."""
    table = (ROOT / "service/README.md").read_text().partition("\n| route | key needed |")[2].partition("\n\n")[0]
    listed, methods = set(), []
    for line in table.splitlines()[2:]:
        ended = True
        for method, path in re.findall(r"`(?:(GET|PUT|POST|DELETE)(?: |(?=`)))?([^`?]*)[^`]*`", line.split("|")[1]):
            if method:
                methods = [method] if ended else [*methods, method]
            listed |= {(one, re.sub(r"\{[^}]+\}", "{}", path)) for one in methods if path}
            ended = bool(path)
    return listed


def test_the_service_readme_lists_every_route_and_no_other():
    from service.app import create_app
    from service.settings import Settings

    made = set()
    for route in routes_of(create_app(Settings(), "redis://127.0.0.1:1")):
        made |= {(method, re.sub(r"\{[^}]+\}", "{}", route.path)) for method in route.methods - {"HEAD"}}
    assert len(made) > 25
    assert routes_listed() == made


def routes_of(app):
    """All with methods, those of routers that are included as well: what is mounted is files of another package."""
    within = [route.original_router.routes if hasattr(route, "original_router") else [route] for route in app.routes]
    return [route for routes in within for route in routes if hasattr(route, "methods")]


def test_the_path_of_a_request_names_the_steps_of_the_pipeline_in_order():
    steps = (ROOT / "service/README.md").read_text().partition("\n| step | file |")[2].partition("\n\n")[0]
    first = re.findall(r"^\| \d [^|]*\| \[`(\w+)\.py`\]", steps, re.MULTILINE)
    path = (ROOT / "service/pipeline.py").read_text()
    imported = re.findall(r"^from service\.(\w+) import", path, re.MULTILINE)
    around = {"bundles", "metrics", "search_threads"}  # what the steps are given
    assert set(first) == set(imported) - around
    assert ["request", *re.findall(r'timer\.enter\("(\w+)"\)', path)] == first


def test_the_readme_of_loadtest_names_every_part_of_the_proofs():
    from loadtest.proofs.page import HEADS

    table = (ROOT / "loadtest/README.md").read_text().partition("\n| part | what | must hold |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(HEADS)


def test_the_changelog_starts_with_what_is_unreleased():
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "[Unreleased]"


def test_decisions_are_numbered_one_after_the_other():
    numbers = [int(n) for n in re.findall(r"^## (\d+)\.", (ROOT / "DECISIONS.md").read_text(), re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))


def test_every_dependency_has_its_reason_written_down():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(name for extra in project["optional-dependencies"].values() for name in extra)]
    names = {re.split(r"[\[><=; ]", name)[0] for name in wanted} - {"longtrail"}
    text = (ROOT / "DECISIONS.md").read_text()
    assert sorted(name for name in names if f"`{name}`" not in text) == []


def test_the_server_says_the_version_of_the_project():
    import tomllib

    from service.version import VERSION

    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == VERSION
