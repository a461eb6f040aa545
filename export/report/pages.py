"""The report's three files: report.json (all figures), report.md (the tables), report.html (tables and plots, one file)."""

import os
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from export.report.content import Content
from export.report.sections import sections
from export.run import write_json

REPORTS = Path("export/reports")
TEMPLATES = Path(__file__).parent


def write_report(content: Content, reports: Path = REPORTS) -> Path:
    """Write reports/<data>/report.html, .md and .json, and say where they are."""
    folder = reports / str(content["data"])
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "report.json", content)
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=select_autoescape(["html.jinja"], default=False),
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    shown = sections(content)
    for suffix in ("html", "md"):
        page = environment.get_template(f"page.{suffix}.jinja").render(**content, sections=shown)
        unfinished = folder / f".report.{suffix}"
        unfinished.write_text(page)
        os.replace(unfinished, folder / f"report.{suffix}")
    return folder
