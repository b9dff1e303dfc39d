"""KServe's own clients (the package `kserve`, unmodified), over HTTP and gRPC, against a real server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.pictures import encoded_image
from tests.support.world import NETWORK, PHOTO, World, images

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def asked(addresses: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the clients got, by transport."""
    folder = tmp_path_factory.mktemp("kserve")
    np.save(folder / "x.npy", images(3))
    (folder / "image.png").write_bytes(encoded_image((30, 40)))
    command = [sys.executable, "-m", "tests.support.kserve_calls", *addresses, str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_health(asked: dict[str, Any], transport: str) -> None:
    found = asked[transport]
    assert found["live"] is True and found["ready"] is True and found["model"][0] is True
    assert found["model"][1:] in ([], [False])


@pytest.mark.parametrize("transport", ["http", "grpc"])
@pytest.mark.parametrize("form", ["binary True", "binary False"])
def test_answers_equal_the_local_net(asked: dict[str, Any], live_world: World, transport: str, form: str) -> None:
    found = asked[transport][form]
    assert found["model"] == [NETWORK, "2" if transport == "grpc" else None, "7"]  # theirs drops it over HTTP
    np.testing.assert_allclose(found["values"], live_world.answer(f"{NETWORK}:2", images(3)).ravel(), atol=1e-5)


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_aliases(asked: dict[str, Any], live_world: World, transport: str) -> None:
    found = asked[transport]["alias"]
    np.testing.assert_allclose(found["values"], live_world.answer(f"{NETWORK}:1", images(3)).ravel(), atol=1e-5)


def test_images_are_answered_alike_over_both(asked: dict[str, Any]) -> None:
    assert asked["http"]["image"]["model"][0] == PHOTO
    np.testing.assert_allclose(asked["http"]["image"]["values"], asked["grpc"]["image"]["values"], atol=1e-6)


@pytest.mark.parametrize(("transport", "status"), [("http", "400"), ("grpc", "INVALID_ARGUMENT")])
def test_refusals_are_readable(asked: dict[str, Any], transport: str, status: str) -> None:
    found, text = asked[transport]["refusal"]
    assert found == status and "input 'input': expected shape [N, 1, 8, 8]" in text
