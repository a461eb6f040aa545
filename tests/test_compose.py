"""docker-compose.yml: what its services must say alike."""

import re
from pathlib import Path

import pytest
import yaml

from service.settings import Settings

TEXT = (Path(__file__).parent.parent / "docker-compose.yml").read_text()
STACK = yaml.safe_load(TEXT)
OF_WRITERS = ("tree_cap_per_category", "tree_cap_per_user", "user_ttl_s")


@pytest.mark.parametrize("service", ["seed", "scorer", "consumer"])
@pytest.mark.parametrize("setting", OF_WRITERS)
def test_all_who_write_trees_keep_the_same_by_one_setting(service, setting):
    name, default = f"CTR_{setting.upper()}", Settings.model_fields[setting].default
    assert STACK["services"][service]["environment"][name] == f"${{{name}:-{default}}}"


def test_the_head_names_every_variable_that_can_be_set():
    head, _, rest = TEXT.partition("\nname: ")
    used = set(re.findall(r"(?<!\$)\$\{([A-Z_]+)", rest))
    assert len(used) > 10
    assert sorted(name for name in used if name not in head) == []
