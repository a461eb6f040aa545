"""Tables of service/README.md, for the tests that hold them against the code."""

from pathlib import Path

README = Path(__file__).parents[2] / "service" / "README.md"


def table(*head: str) -> list[list[str]]:
    """Rows of the table with this head, cells without backticks."""
    lines = README.read_text().splitlines()
    start = lines.index(f"| {' | '.join(head)} |") + 2
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
    return rows
