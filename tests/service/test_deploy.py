"""What is under service/deploy: read by the tools it is for, and about metrics and settings that there are."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from service.errors import ScorerError
from service.metrics import DEGRADED, ConsumerMetrics, Metrics
from service.settings import Settings
from tests.service.serving import served

DEPLOY = Path(__file__).parents[2] / "service/deploy"
DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/longtrail.json").read_text())
ALERTS = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())
MANIFESTS = list(yaml.safe_load_all((DEPLOY / "kubernetes/scorer.yaml").read_text()))
PANELS = [(panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
RULES = [(rule["alert"], rule["expr"]) for group in ALERTS["groups"] for rule in group["rules"]]
METRIC = re.compile(r"\bctr_[a-z_]+\b")
LABELS = re.compile(r"(ctr_[a-z_]+)\{([^}]*)\}")


@pytest.fixture(scope="module")
def exposed(shared_tiny):
    """Names of the samples in a running scorer's /metrics, and in a consumer's registry."""
    with served(shared_tiny.bundles) as (client, _):
        client.post("/score", json={"user_id": "u1", "item_ids": ["i1"], "model": "din"})
        text = client.get("/metrics").text
    of_scorer = {line.split("{")[0].split(" ")[0] for line in text.splitlines() if not line.startswith("#")}
    declared = set(re.findall(r"^# TYPE (\S+) (?:counter|gauge|histogram)$", text, re.MULTILINE))
    consumer = {sample.name for family in ConsumerMetrics().registry.collect() for sample in family.samples}
    # a histogram with labels has no sample before its first observation: its name is declared, and that is what counts
    of_histograms = {f"{name}{end}" for name in declared for end in ("_bucket", "_sum", "_count")}
    return of_scorer | declared | of_histograms | consumer


def test_there_are_panels_and_alerts():
    assert len(PANELS) > 30
    assert len(RULES) > 10


@pytest.mark.parametrize(("title", "expression"), [*PANELS, *RULES], ids=lambda text: text[:40])
def test_what_is_shown_or_alerted_on_is_measured(exposed, title, expression):
    named = set(METRIC.findall(expression))
    assert named or "up{" in expression, title
    assert named <= exposed, title


def test_labels_that_are_asked_for_can_be_there():
    """A reason or result that no code counts would be a panel that stays empty, and an alert that stays silent."""
    rejected = {kind.word() for kind in ScorerError.__subclasses__()}
    values = {"reason": {*DEGRADED, *rejected}, "result": {"ok", "refused", "failed", "accepted", "duplicate", "dead"}}
    for title, expression in [*PANELS, *RULES]:
        for _, inner in LABELS.findall(expression):
            for label, value in re.findall(r'(reason|result)="([^"]*)"', inner):
                assert value in values[label], title


def test_the_dashboard_finds_its_datasource_and_no_panel_lies_on_another():
    (source,) = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"] if panel["type"] != "row"} == {source["uid"]}
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_every_metric_of_the_scorer_is_on_the_dashboard_or_left_out_knowingly():
    shown = {name for _, expression in PANELS for name in METRIC.findall(expression)}
    left_out = {"ctr_request_log"}  # of those who turn it on
    families = {family.name for metrics in (Metrics(), ConsumerMetrics()) for family in metrics.registry.collect()}
    assert {name for name in families if not any(one.startswith(name) for one in shown)} == left_out


@pytest.mark.parametrize(
    "command", [("check", "config", "prometheus.yml"), ("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml")]
)
def test_promtool_passes_configuration_rules_and_their_tests(command):
    if not (promtool := shutil.which("promtool")):
        pytest.skip("promtool is not installed (Debian: prometheus); make stack-test runs it in its container")
    done = subprocess.run([promtool, *command], cwd=DEPLOY / "prometheus", capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_says_what_is_wrong_and_how_urgent_it_is():
    for group in ALERTS["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("page", "ticket")
            assert {"summary", "description"} <= set(rule["annotations"]), rule["alert"]


# Kubernetes


def of_kind(kind):
    (one,) = [manifest for manifest in MANIFESTS if manifest["kind"] == kind]
    return one


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda manifest: manifest["kind"])
def test_manifests_are_what_the_published_schemas_say(manifest):
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_the_schemas_refuse_what_is_wrong():
    wrong = json.loads(json.dumps(of_kind("Deployment")))
    wrong["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, kubernetes_validate.latest_version(), strict=True)


def test_probes_ask_what_they_mean_and_the_end_leaves_time_to_drain():
    pod = of_kind("Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    probes = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")}
    assert probes == {"startup": "/v2/health/ready", "readiness": "/v2/health/ready", "liveness": "/v2/health/live"}
    settings = {one["name"]: one.get("value") for one in container["env"]}
    assert {name.removeprefix("CTR_").lower() for name in settings} <= set(Settings.model_fields)
    ready = container["readinessProbe"]
    assert int(settings["CTR_DRAIN_MS"]) / 1000 > 2 * ready["periodSeconds"] * ready["failureThreshold"]
    assert pod["terminationGracePeriodSeconds"] > int(settings["CTR_DRAIN_MS"]) / 1000 + 5
    assert container["resources"]["limits"]["memory"]


def test_versions_in_a_folder_that_is_read_only_are_looked_for():
    (container,) = of_kind("Deployment")["spec"]["template"]["spec"]["containers"]
    settings = {one["name"]: one.get("value") for one in container["env"]}
    (mounted,) = [one for one in container["volumeMounts"] if one["mountPath"] == "/bundles"]
    assert mounted["readOnly"]
    assert float(settings["CTR_BUNDLES_POLL_S"]) > 0


def test_it_scales_by_calls_in_flight_and_never_down_to_none():
    (metric,) = of_kind("HorizontalPodAutoscaler")["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] in {family.name for family in Metrics().registry.collect()}
    assert of_kind("PodDisruptionBudget")["spec"]["minAvailable"] >= 1
    selector = of_kind("Deployment")["spec"]["selector"]["matchLabels"]
    assert of_kind("Service")["spec"]["selector"] == of_kind("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == selector
