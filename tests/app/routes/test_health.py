from __future__ import annotations

import re
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi.testclient import TestClient

from app.deps import Service
from app.main import create_app
from registry.settings import Settings
from tests.support import files
from tests.support.http import push


def test_everything_is_well(client: TestClient) -> None:
    for path in ("/health", "/health/ready"):
        response = client.get(path)
        assert (response.status_code, response.json()["status"]) == (200, "ok")
        assert response.json()["checks"] == {"database": "ok", "store": "ok"}
    assert client.get("/health/live").json()["status"] == "ok"


def test_a_schema_of_another_version_is_not_ready(app_settings: Settings) -> None:
    (app_settings.home / "graftery.db").unlink()
    with TestClient(create_app(app_settings)) as client:
        assert client.get("/health/live").status_code == 200
        ready = client.get("/health/ready")
        assert ready.status_code == 503
        assert "python -m migrations" in ready.json()["checks"]["database"]
        assert client.get("/health").status_code == 200


def test_a_database_that_is_gone_is_not_ready(app_settings: Settings) -> None:
    settings = app_settings.model_copy(update={"database_url": "postgresql://nobody@127.0.0.1:9/none"})
    with TestClient(create_app(settings)) as client:
        ready = client.get("/health/ready")
    assert ready.status_code == 503
    assert ready.json()["checks"]["store"] == "ok"
    assert ready.json()["checks"]["database"] != "ok"


def test_a_store_that_is_gone_does_not_take_the_report_with_it(client: TestClient, app_settings: Settings) -> None:
    shutil.rmtree(app_settings.home / "store")
    assert client.get("/health").status_code == 200


def test_life_is_told_while_every_thread_is_busy(
    client: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = threading.Event()
    monkeypatch.setattr(service.store, "exists", lambda _: end.wait(60))
    with ThreadPoolExecutor(42) as threads:
        busy = [threads.submit(client.get, "/health") for _ in range(41)]
        try:
            time.sleep(0.5)
            assert threads.submit(client.get, "/health/live").result(timeout=5).json()["status"] == "ok"
            assert not any(each.done() for each in busy)
        finally:
            end.set()


def _figure(text: str, name: str) -> float:
    match = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert match is not None, name
    return float(match[1])


def test_figures(client: TestClient) -> None:
    version = push(client, "cat", files.file_bytes(files.parts()[0]))
    client.post("/v1/collect")
    client.get("/v1/modules/none")
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    text = response.text
    assert _figure(text, 'graftery_jobs{state="queued"}') == 1
    assert _figure(text, 'graftery_versions{kind="category"}') == 1
    assert _figure(text, "graftery_store_bytes") == version["size_bytes"]
    requests = 'graftery_http_requests_total{method="GET",route="/v1/modules/{name}",status="404"}'
    assert _figure(text, requests) == 1
    assert _figure(text, 'graftery_http_request_seconds_count{method="PUT",route="/v1/modules/{name}"}') == 1


def test_paths_and_methods_do_not_make_series(client: TestClient) -> None:
    for number in range(3):
        client.get(f"/nothing/{number}")
        client.request(f"ODD{number}", "/v1/modules")
    text = client.get("/metrics").text
    assert _figure(text, 'graftery_http_requests_total{method="GET",route="unmatched",status="404"}') == 3
    assert _figure(text, 'graftery_http_requests_total{method="other",route="/v1/modules",status="405"}') == 3
