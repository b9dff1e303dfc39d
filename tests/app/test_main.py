from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from fastapi.testclient import TestClient

from app.main import create_app
from registry.settings import Settings
from tests.support.processes import eventually


def test_without_inference_torch_is_never_loaded(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from app.main import create_app\n"
        "from registry.settings import Settings\n"
        f"create_app(Settings(home=Path({str(tmp_path)!r}), planes='registry')).openapi()\n"
        "print([name for name in ('torch', 'numpy', 'onnxruntime') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_plane_that_is_off_has_no_routes(app_settings: Settings) -> None:
    app = create_app(app_settings.model_copy(update={"planes": frozenset()}))
    with TestClient(app) as client:
        assert client.get("/v1/modules").status_code == 404
        assert client.get("/health/live").status_code == 200
    assert app.state.service.verifier._children[0]._process is None


def test_with_inference_both_planes_answer_in_their_own_form(app_settings: Settings) -> None:
    app = create_app(app_settings.model_copy(update={"planes": frozenset({"registry", "inference"})}))
    with TestClient(app) as client:
        assert client.get("/v2/health/live").status_code == 200
        missing = client.get("/v2/models/none")
        assert missing.status_code == 404
        assert set(missing.json()) == {"error"}
        assert client.request("PUT", "/v2/models/none").json().keys() == {"error"}
        assert client.get("/v1/modules/none").json()["code"] == "not_found"


def test_verifiers_start_with_the_app_and_end_with_it(app_settings: Settings) -> None:
    app = create_app(app_settings)
    child = app.state.service.verifier._children[0]
    assert child._process is None
    with TestClient(app):
        process = child._process
        assert process is not None and process.poll() is None
    assert process.poll() is not None


def test_what_a_host_has_left_is_swept_as_the_app_starts(app_settings: Settings) -> None:
    app = create_app(app_settings.model_copy(update={"planes": frozenset()}))
    left: Path = app.state.store.staging / "left"
    left.touch()
    os.utime(left, (0, 0))
    with TestClient(app):
        assert eventually(lambda: not left.exists())


def test_the_documents_are_served(client: TestClient) -> None:
    assert client.get("/openapi.json").json()["info"]["title"] == "Graftery"
    assert client.get("/docs").status_code == 200
