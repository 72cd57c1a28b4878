"""Rule: the chart runs exactly our roles, is what was rendered, is valid, and gives a pod nothing that it does not need."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from cli.contracts import chart
from cli.roles import ROLES
from cli.runner import DRAIN_S
from nexafi.settings import PORT_OFFSETS, Settings

#: The oldest supported, the one it is rendered for, and the newest that the validator knows.
KUBERNETES_VERSIONS = ("1.27", "1.31", "1.37")
Manifest = dict[str, Any]


@pytest.fixture(scope="module", params=sorted(chart.RENDERINGS))
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    return [m for m in yaml.safe_load_all((chart.RENDERED / request.param).read_text()) if m]


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Name and pod specification of everything that starts a pod."""
    for m in manifests:
        if m["kind"] in {"Deployment", "StatefulSet", "Job"}:
            yield m["metadata"]["name"], m["spec"]["template"]


def test_the_rendering_is_of_this_chart() -> None:
    locked = json.loads(chart.LOCK.read_text())
    assert locked == chart.lock(chart.committed()), (
        "run python -m cli.contracts.chart and commit what it writes"
    )


def test_an_edit_that_was_not_rendered_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = chart.lock(chart.committed())
    (tmp_path / "values.yaml").write_text("edited: true\n")
    monkeypatch.setattr(chart, "CHART", tmp_path)
    assert chart.lock(chart.committed()) != before


def test_helm_where_there_is_one_renders_the_same() -> None:
    program = chart.helm()
    # Without one, the lock above has shown that the rendering is of this chart.
    rendered = chart.committed() if program is None else chart.render(program)
    assert rendered == chart.committed()


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_every_manifest_is_valid(manifests: list[Manifest], version: str) -> None:
    for manifest in manifests:
        kubernetes_validate.validate(manifest, version, strict=True)
    assert len(manifests) > 3 * len(ROLES)


def test_an_invalid_manifest_is_found(manifests: list[Manifest]) -> None:
    broken = copy.deepcopy(next(m for m in manifests if m["kind"] == "Deployment"))
    broken["spec"]["template"]["spec"]["securtyContext"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, KUBERNETES_VERSIONS[1], strict=True)


def test_the_chart_runs_every_role_and_no_other(manifests: list[Manifest]) -> None:
    started = {
        pod["spec"]["containers"][0]["args"][1] for name, pod in pods(manifests) if "migrate" not in name
    }
    assert started == set(ROLES)


def test_writers_have_a_stable_name(manifests: list[Manifest]) -> None:
    stable = {
        m["metadata"]["labels"]["app.kubernetes.io/component"]
        for m in manifests
        if m["kind"] == "StatefulSet"
    }
    assert stable == {role for role in ROLES if role != "gateway" and not role.endswith("-api")}
    for name, pod in pods(manifests):
        if "migrate" not in name:
            assert {"name": "NEXAFI_INSTANCE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}} in (
                pod["spec"]["containers"][0]["env"]
            )


def test_no_pod_has_more_than_it_needs(manifests: list[Manifest]) -> None:
    for name, pod in pods(manifests):
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["enableServiceLinks"] is False, name
        assert not any(spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")), name
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert all(set(volume) == {"name", "emptyDir"} for volume in spec["volumes"]), name
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True, name
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert container["resources"]["requests"].keys() >= {"cpu", "memory"}, name
            assert "memory" in container["resources"]["limits"], name


def test_every_role_is_probed_and_drains(manifests: list[Manifest]) -> None:
    for name, pod in pods(manifests):
        if "migrate" not in name:
            (container,) = pod["spec"]["containers"]
            assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "health"}
            assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "health"}
            assert container["startupProbe"]["httpGet"] == {"path": "/healthz", "port": "health"}
            assert pod["spec"]["terminationGracePeriodSeconds"] > DRAIN_S + 5


def test_a_pod_is_not_ready_before_it_takes_no_connections(manifests: list[Manifest]) -> None:
    """Endpoints take seconds to hear of a pod that ends; it serves for so long."""
    (config,) = (m["data"] for m in manifests if "NEXAFI_HOST" in m.get("data", {}) and "hook" not in str(m))
    delay_s = Settings(drain_delay_s=float(config["NEXAFI_DRAIN_DELAY_S"])).drain_delay_s
    assert delay_s >= 3


def test_every_role_has_a_budget_for_disruptions(manifests: list[Manifest]) -> None:
    budgets = {m["metadata"]["name"] for m in manifests if m["kind"] == "PodDisruptionBudget"}
    assert budgets == {name for name, _ in pods(manifests) if "migrate" not in name}


def test_the_network_denies_by_default(manifests: list[Manifest]) -> None:
    policies = [m for m in manifests if m["kind"] == "NetworkPolicy"]
    deny = [p for p in policies if not p["spec"].get("ingress") and not p["spec"].get("egress")]
    assert [p["spec"]["policyTypes"] for p in deny] == [["Ingress", "Egress"]]
    everywhere = deny[0]["spec"]["podSelector"]["matchLabels"].items()
    for name, pod in pods(manifests):
        assert everywhere <= pod["metadata"]["labels"].items(), name
    for policy in policies:
        for rule in policy["spec"].get("ingress", []):
            assert rule["from"], policy["metadata"]["name"]
            assert rule["ports"], policy["metadata"]["name"]
        for rule in policy["spec"].get("egress", []):
            assert rule["to"], policy["metadata"]["name"]
            assert rule["ports"], policy["metadata"]["name"]


def test_settings_are_ours_and_none_is_a_secret(manifests: list[Manifest]) -> None:
    known = {f"NEXAFI_{name.upper()}" for name in Settings.model_fields}
    for m in manifests:
        if m["kind"] == "ConfigMap":
            assert m["data"].keys() <= known
            assert not m["data"].keys() & {"NEXAFI_HMAC_KEY", "NEXAFI_DATABASE_URL"}
    assert not [m for m in manifests if m["kind"] == "Secret"]


def test_settings_of_the_chart_are_read_and_name_every_query_api(
    manifests: list[Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = next(m for m in manifests if m["kind"] == "ConfigMap" and "hook" not in str(m["metadata"]))
    for name, value in config["data"].items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    services = {m["metadata"]["name"]: m["spec"]["ports"] for m in manifests if m["kind"] == "Service"}
    apis = {role.removesuffix("-api") for role in ROLES if role.endswith("-api")}
    assert settings.service_urls.keys() == apis
    for service, url in settings.service_urls.items():
        host, port = url.removeprefix("http://").split(":")
        assert int(port) == 5000 + PORT_OFFSETS[service]
        assert {"name": "http", "port": int(port), "targetPort": "http"} in services[host]


def test_stores_are_migrated_before_anything_starts(manifests: list[Manifest]) -> None:
    (job,) = [m for m in manifests if m["kind"] == "Job"]
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert job["spec"]["template"]["spec"]["containers"][0]["args"] == ["migrate"]
