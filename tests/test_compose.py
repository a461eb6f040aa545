"""docker-compose.yml and Dockerfile: what services must say alike, and what none of them may."""

import re
from pathlib import Path

import pytest
import yaml

from loadtest.stack.compose import SERVICES
from service.settings import Settings

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docker-compose.yml").read_text()
STACK = yaml.safe_load(TEXT)
DOCKERFILE = (Path(__file__).parent.parent / "Dockerfile").read_text()
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


def test_ports_are_this_machines_only():
    published = [port for service in STACK["services"].values() for port in service.get("ports", [])]
    assert len(published) > 4
    assert [port for port in published if not port.startswith("127.0.0.1:")] == []


def test_what_is_mounted_from_the_project_is_there():
    mounts = [volume for service in STACK["services"].values() for volume in service.get("volumes", [])]
    sources = {volume.split(":")[0] if isinstance(volume, str) else volume["source"] for volume in mounts}
    own = {source for source in sources if source.startswith("./")}
    assert len(own) > 3
    assert [source for source in sorted(own) if not (ROOT / source).exists()] == []


def test_the_gpu_is_asked_for_by_its_profile_alone():
    (device,) = STACK["services"]["scorer-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert [name for name, service in STACK["services"].items() if "deploy" in service] == ["scorer-gpu"]
    assert STACK["services"]["scorer-gpu"]["profiles"] == ["gpu"]


def test_what_prometheus_scrapes_are_services_of_the_stack():
    config = yaml.safe_load((ROOT / "service/deploy/prometheus/prometheus.yml").read_text())
    targets = [target for job in config["scrape_configs"] for one in job["static_configs"] for target in one["targets"]]
    always = {name for name, service in STACK["services"].items() if "profiles" not in service}
    assert {target.split(":")[0] for target in targets} == {"scorer", "consumer"} <= always
    (scorer, _) = config["scrape_configs"]  # both scorers have the job that the alert of a scorer that is gone asks for
    assert (scorer["job_name"], scorer["dns_sd_configs"][0]["names"]) == ("scorer", ["scorer-gpu"])
    assert STACK["services"]["scorer-gpu"]["profiles"] == ["gpu"]
    assert all((ROOT / "service/deploy/prometheus" / name).exists() for name in config["rule_files"])


def test_up_starts_all_that_is_no_choice_and_waits_until_it_is_well():
    always = {name: one for name, one in STACK["services"].items() if "profiles" not in one}
    jobs = {"seed"}
    assert set(always) == {*SERVICES, "grafana", "store"} | jobs
    of_image = {"scorer"}  # the Dockerfile has its check
    assert {name for name, one in always.items() if "test" not in one.get("healthcheck", {})} == jobs | of_image
    assert "HEALTHCHECK" in DOCKERFILE


@pytest.mark.parametrize("service", [name for name, one in STACK["services"].items() if one.get("image") == "longtrail-serve"])
def test_what_is_ours_runs_on_a_read_only_root_without_capabilities(service):
    one = STACK["services"][service]
    assert one["read_only"] is True
    assert one["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in one["security_opt"]
    assert "user" not in one  # the image's own
    assert not one.get("privileged")


@pytest.mark.parametrize("stage", re.findall(r"^FROM \S+ AS (?!base)(\S+)", DOCKERFILE, re.MULTILINE))
def test_images_run_as_somebody_who_is_not_root(stage):
    text = DOCKERFILE.partition(f" AS {stage}\n")[2].partition("\nFROM ")[0]
    assert re.findall(r"^USER (.+)$", text, re.MULTILINE)[-1] == "longtrail"
    assert "useradd --uid 10001" in DOCKERFILE
