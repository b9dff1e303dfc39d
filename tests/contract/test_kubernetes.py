"""The manifests in deploy/kubernetes, against Kubernetes' own schemas and KEDA's, and against what they name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from cloudcoil.models.keda import v1alpha1 as keda
from sqlalchemy import text

from registry import jobs
from registry.db import Database
from registry.models import Job
from registry.settings import Settings
from tests.support import compose

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy/kubernetes"
VERSIONS = ("1.34", "1.37")
DOCUMENTS: list[dict[str, Any]] = [
    document for path in sorted(FOLDER.glob("*.yaml")) for document in yaml.safe_load_all(path.read_text())
]
OF_KEDA = {"ScaledObject": keda.ScaledObject, "TriggerAuthentication": keda.TriggerAuthentication}
BUCKET = {"AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"}


def _name(document: dict[str, Any]) -> str:
    return f"{document['kind']}-{document['metadata']['name']}"


def _of(kind: str) -> dict[str, dict[str, Any]]:
    return {document["metadata"]["name"]: document for document in DOCUMENTS if document["kind"] == kind}


def _pod(document: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = document["spec"]["template"]["spec"]
    return pod


RUNNING = {**_of("Deployment"), **_of("Job")}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("document", [d for d in DOCUMENTS if d["kind"] not in OF_KEDA], ids=_name)
def test_manifests_are_kubernetes_own(document: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


def test_the_check_sees_a_field_that_is_none() -> None:
    wrong = {**DOCUMENTS[0], "speck": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if d["kind"] in OF_KEDA], ids=_name)
def test_manifests_are_keda_s_own(document: dict[str, Any]) -> None:
    """Against the types of KEDA's resource definitions, as the package cloudcoil-models-keda carries them."""
    read = OF_KEDA[document["kind"]].model_validate(document)
    assert read.model_dump(mode="json", by_alias=True, exclude_unset=True) == document, (
        "a field that is none is dropped"
    )


def test_there_is_all_that_runs() -> None:
    assert RUNNING.keys() == {"api", "inference", "worker", "migrate"}
    assert _of("ScaledObject")["worker"]["spec"]["scaleTargetRef"]["name"] == "worker"


def test_settings_exist_and_are_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {**_of("ConfigMap")["graftery"]["data"], **_of("Secret")["graftery"]["stringData"]}
    assert given.keys() >= {"GRAFTERY_DATABASE_URL", "GRAFTERY_STORE_URL"} | BUCKET
    for variable, value in given.items():
        assert variable in BUCKET or variable.removeprefix("GRAFTERY_").lower() in Settings.model_fields
        monkeypatch.setenv(variable, value)
    settings = Settings()
    for name in ("api", "inference"):
        pod = _pod(RUNNING[name])
        assert settings.drain_s + settings.finish_s < pod["terminationGracePeriodSeconds"]
        probe = pod["containers"][0]["readinessProbe"]
        assert settings.drain_s > probe["periodSeconds"] * probe["failureThreshold"] + probe["timeoutSeconds"]


def test_images_are_the_dockerfile_s_targets() -> None:
    images = {_pod(document)["containers"][0]["image"] for document in RUNNING.values()}
    assert {re.sub(r"^graftery-|:.*$", "", image) for image in images} == {"api", "inference", "worker"}
    assert {"api", "inference", "worker"} <= compose.stages().keys()


def test_selectors_find_their_pods() -> None:
    labels = {name: document["spec"]["template"]["metadata"]["labels"] for name, document in RUNNING.items()}
    for kind in ("Service", "PodDisruptionBudget"):
        for name, document in _of(kind).items():
            selector = document["spec"]["selector"]
            assert selector.get("matchLabels", selector) == labels[name]
    for name, document in _of("Deployment").items():
        assert document["spec"]["selector"]["matchLabels"] == labels[name]


def test_the_ingress_leads_to_services_that_exist() -> None:
    paths = _of("Ingress")["graftery"]["spec"]["rules"][0]["http"]["paths"]
    services = _of("Service")
    for path in paths:
        backend = path["backend"]["service"]
        assert backend["port"]["name"] in {port["name"] for port in services[backend["name"]]["spec"]["ports"]}
    assert next(p for p in paths if p["path"] == "/v2")["backend"]["service"]["name"] == "inference"


def test_no_service_s_variables_are_taken_for_settings() -> None:
    """Kubernetes sets NAME_PORT for every service: one called graftery would set GRAFTERY_PORT to a URL."""
    assert "graftery" not in _of("Service")
    assert all(_pod(document)["enableServiceLinks"] is False for document in RUNNING.values())


def test_nothing_runs_as_root() -> None:
    for document in RUNNING.values():
        pod = _pod(document)
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["containers"][0]["securityContext"]["allowPrivilegeEscalation"] is False


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_workers_are_scaled_by_the_jobs_that_there_are(database: Database) -> None:
    query = _of("ScaledObject")["worker"]["spec"]["triggers"][0]["metadata"]["query"]
    with database.transaction() as session:
        ids = [jobs.submit(session, kind="collect", request={}, pinned={}).id for _ in range(4)]
        assert session.scalar(text(query)) == 4
        claim = jobs.claim(session, "me", 60)
        assert claim is not None and jobs.finish(session, claim.id, claim.attempt, {})
        assert jobs.claim(session, "me", 60) is not None
        assert session.scalar(text(query)) == 3, "one has ended, one runs, two wait"
        assert session.get_one(Job, ids[0]).state == "succeeded"
