"""`graftery verify`: a file on this machine, and what is said about a network's replay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from graftery.client.cli import run
from graftery.client.http import Client
from graftery.spec.certificate import CertificateOut, DeviceClass, Verification
from tests.support import files

HERE = DeviceClass(device="cpu", model="m", kernels="AVX2", torch="2.13.0", threads=1)
AT = "2026-01-02T03:04:05Z"


def _found(**more: Any) -> Verification:
    probes = {"digest": "ab" * 32, "size_bytes": 9, "device_class": HERE, "made_at": AT, "made_by": "job j1"}
    replays = [
        {"job": job, "at": AT, "compared": "bitwise", "same": job != "j2", "identical": False} for job in ("j3", "j2")
    ]
    said = CertificateOut.model_validate(
        {"network": "n:1", "digest": "cd" * 32, "parts": {}, "probes": probes, "replays": replays}
    )
    return Verification(**{"compared": "bitwise", "device_class": HERE, "certificate": said, **more})


def test_a_sound_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cat.safetensors"
    path.write_bytes(files.file_bytes(files.parts()[0]))
    assert run(["verify", str(path)]) == 0
    assert "a sound module file" in capsys.readouterr().out
    path.write_bytes(path.read_bytes()[:-1])
    assert run(["verify", str(path)]) == 1
    assert "error[file_truncated]" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["./cat", "cat.safetensors"])
def test_what_looks_like_a_file_is_not_asked_of_a_service(
    what: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAFTERY_URL", "http://127.0.0.1:9")
    assert run(["verify", what]) == 1
    assert capsys.readouterr().err == f"error[not_found]: there is no file {Path(what)}\n"


@pytest.mark.parametrize(
    ("found", "code", "verdict"),
    [
        (_found(same=True, identical=True), 0, "the same to the bit"),
        (_found(compared="tolerance", same=True, identical=False), 0, "the same within the tolerance"),
        (
            _found(same=False, identical=False, reason="the outputs differ by 0.5"),
            1,
            "NOT THE SAME: the outputs differ",
        ),
    ],
)
def test_the_verdict_and_the_exit_code(
    found: Verification, code: int, verdict: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Client, "verify", lambda *_, **__: found)
    assert run(["verify", "n"]) == code
    out = capsys.readouterr().out
    assert out.startswith(f"n:1: {verdict}")
    assert "by job j1 on cpu (m, AVX2), torch 2.13.0, 1 thread" in out
    assert "after 2 transplants, not the same after j2" in out
