"""What is under service/deploy: read by the tools it is for, and about metrics and settings that there are."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from service.errors import ScorerError
from service.labels import Labels
from service.metrics import BUCKETS, DEGRADED, STAGES, STORE_FAULTS, ConsumerMetrics, Metrics
from service.settings import Settings
from tests.service.serving import served
from tests.service.tiny import VERSION

DEPLOY = Path(__file__).parents[2] / "service/deploy"
DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/longtrail.json").read_text())
ALERT_TESTS = yaml.safe_load((DEPLOY / "prometheus/alerts_test.yml").read_text())
ALERTS = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())
MANIFESTS = list(yaml.safe_load_all((DEPLOY / "kubernetes/scorer.yaml").read_text()))
PANELS = [(panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
RULES = [(rule["alert"], rule["expr"]) for group in ALERTS["groups"] for rule in group["rules"]]
MATCHED = re.compile(r"\b(ctr_[a-z_]+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'([a-z_]+)(=~|!=|=)"([^"]*)"')
GROUPED = re.compile(r"(?:by|on|ignoring|group_left) \(([^)]*)\)")
SCORING = "/score|/v2/models/.*/infer"  # routes, as every expression about scoring has them
INFER = {"inputs": [{"name": "user_id", "datatype": "BYTES", "shape": [1], "data": ["u1"]},
                    {"name": "item_ids", "datatype": "BYTES", "shape": [1], "data": ["i1"]}]}  # fmt: skip


def samples_of(metrics):
    """Label names of every sample that a registry can have, by its name."""
    for holder in (metrics, metrics.events):
        for metric in vars(holder).values():
            if isinstance(metric, MetricWrapperBase) and metric._labelnames:
                metric.labels(*["any"] * len(metric._labelnames))
    samples = [sample for family in metrics.registry.collect() for sample in family.samples]
    return {sample.name: set(sample.labels) for sample in samples if not sample.name.endswith("_created")}


SAMPLES = samples_of(Metrics()) | samples_of(ConsumerMetrics())
VALUES = {
    "reason": {*DEGRADED, *(kind.word() for kind in ScorerError.__subclasses__())},
    "result": {"ok", "refused", "failed", "accepted", "duplicate", "dead"},
    "stage": set(STAGES), "kind": set(STORE_FAULTS), "label": set(Labels.model_fields), "route": {SCORING},
}  # fmt: skip


def test_there_are_panels_and_alerts():
    assert len(PANELS) > 30
    assert len(RULES) > 10


@pytest.mark.parametrize(("title", "expression"), [*PANELS, *RULES], ids=lambda text: text[:40])
def test_what_is_shown_or_alerted_on_is_measured(title, expression):
    """By the whole name of a sample, its labels, and values that are counted: else a panel stays empty, an alert silent."""
    named = MATCHED.findall(expression)
    assert named or "up{" in expression, title
    labels = {"instance", "job"}
    for name, matchers in named:
        assert name in SAMPLES, title
        labels |= SAMPLES[name]
        for label, how, value in MATCHER.findall(matchers):
            assert label in SAMPLES[name], title
            assert label not in VALUES or value in VALUES[label] or how == "!=", title
    for group in GROUPED.findall(expression):
        assert {label.strip() for label in group.split(",") if label.strip()} <= labels, title


def test_scoring_is_every_route_that_scores_in_every_expression(shared_tiny):
    """One pattern, because these files can share none; the page's own calls are no scoring."""
    expressions = [expression for _, expression in [*PANELS, *RULES]]
    patterns = {pattern for expression in expressions for pattern in re.findall(r'route=~?"([^"]*)"', expression)}
    assert patterns == {SCORING}
    body = {"user_id": "u1", "item_ids": ["i1"], "model": "din"}
    with served(shared_tiny.bundles) as (client, _):
        for path in ("/score", "/ui/score"):
            assert client.post(path, json=body).status_code == 200
        for path in ("/v2/models/din/infer", f"/v2/models/din/versions/{VERSION}/infer"):
            assert client.post(path, json=INFER).status_code == 200
        counted = set(re.findall(r'ctr_requests_total\{.*route="([^"]+)"', client.get("/metrics").text))
    assert {route for route in counted if re.fullmatch(SCORING, route)} == counted - {"/ui/score", "/metrics"}
    assert len(counted - {"/ui/score", "/metrics"}) == 3


def test_a_quantile_can_be_above_the_threshold_of_its_alert():
    """A quantile beyond the last finite bucket is that bucket's edge."""
    buckets = {
        family.name: [float(sample.labels["le"]) for sample in family.samples if sample.name.endswith("_bucket")]
        for metrics in (Metrics(), ConsumerMetrics()) for family in metrics.registry.collect() if family.type == "histogram"
    }  # fmt: skip
    buckets["ctr_request_duration_seconds"] = [*BUCKETS, float("inf")]  # by route: it begins with its first call
    asked = [re.search(r"histogram_quantile.*\b(ctr_\w+)_bucket.* > ([0-9.]+)$", expression.strip()) for _, expression in RULES]
    found = {one[1]: float(one[2]) for one in asked if one}
    assert {"ctr_request_duration_seconds", "ctr_event_freshness_seconds", "ctr_event_loop_lag_seconds"} <= set(found)
    for name, threshold in found.items():
        assert threshold < sorted(buckets[name])[-2], name


def test_every_alert_is_seen_to_fire_and_not_to_fire():
    cases = [case for test in ALERT_TESTS["tests"] for case in test["alert_rule_test"]]
    names = {alert for alert, _ in RULES}
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == names
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == names


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
    shown = {name for _, expression in PANELS for name, _ in MATCHED.findall(expression)}
    left_out = {"ctr_request_log"}  # of those who turn it on
    families = [family for metrics in (Metrics(), ConsumerMetrics()) for family in metrics.registry.collect()]
    ends = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
    assert {one.name for one in families if not {one.name + end for end in ends[one.type]} & shown} == left_out


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
    (container,) = of_kind("Deployment")["spec"]["template"]["spec"]["containers"]
    (threads,) = [int(one["value"]) for one in container["env"] if one["name"] == "CTR_REQUEST_THREADS"]
    assert 0.5 * threads <= float(metric["pods"]["target"]["averageValue"]) <= 0.7 * threads  # as many as threads is full
    assert of_kind("PodDisruptionBudget")["spec"]["minAvailable"] >= 1
    selector = of_kind("Deployment")["spec"]["selector"]["matchLabels"]
    assert of_kind("Service")["spec"]["selector"] == of_kind("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == selector
