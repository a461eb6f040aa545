"""store/README.md lists the keys: one row per key function of store/keys.py.

| function | pattern | type | ... |
| --- | --- | --- | --- |
| `tree` | `{data}:tree:{{user}}` | HASH | ... |

The first cell is the function's name. The pattern, filled in by `str.format`, is what the function returns, with `user`
as the user and every other argument under its own name. The type is the first word of the function's docstring.
"""

import inspect
import re
from pathlib import Path

import pytest

from store import keys

README = Path(keys.__file__).with_name("README.md")
FUNCTIONS = {
    name: function
    for name, function in inspect.getmembers(keys, inspect.isfunction)
    if function.__module__ == keys.__name__ and next(iter(inspect.signature(function).parameters)) == "data"
}


def key_table():
    """Cells of each row, without backticks, by the name in the first cell."""
    table = README.read_text().partition("\n| function | pattern | type |")[2].partition("\n\n")[0]
    lines = [line for line in table.splitlines() if line.startswith("| `")]
    rows = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row for row in rows}


def test_the_table_of_keys_names_exactly_the_key_functions():
    assert sorted(key_table()) == sorted(FUNCTIONS)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_a_pattern_is_what_the_function_makes(name):
    arguments = {
        parameter: "user" if parameter == "user_id" else parameter for parameter in inspect.signature(FUNCTIONS[name]).parameters
    }
    assert key_table()[name][1].format(**arguments) == FUNCTIONS[name](**arguments)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_a_type_is_what_the_function_says(name):
    assert key_table()[name][2] == re.match(r"\w+", FUNCTIONS[name].__doc__)[0]


def test_every_file_of_the_package_is_in_the_readme():
    text = README.read_text()
    modules = {path.name for path in README.parent.glob("*.py") if path.name != "__init__.py"}
    assert sorted(name for name in modules if f"`{name}`" not in text) == []
