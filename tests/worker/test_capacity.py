"""Jobs go to devices that have the memory; what a device has is a setting, or asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from registry import jobs
from registry.settings import Settings
from tests.support.processes import environment, running
from tests.support.workplace import SQLITE, Workplace
from worker.capacity import device_bytes

GIB = 1024**3


def test_the_setting_is_believed(tmp_path: Path) -> None:
    assert device_bytes(Settings(home=tmp_path, device_bytes=7)) == 7
    assert device_bytes(Settings(home=tmp_path, device="cpu")) is None


def test_a_cpu_has_no_share() -> None:
    command = [sys.executable, "-m", "worker.device", "cpu"]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == ""


@pytest.mark.gpu
def test_a_gpu_is_asked(tmp_path: Path) -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    assert device_bytes(Settings(home=tmp_path)) == torch.cuda.get_device_properties(0).total_memory


def test_a_device_that_cannot_be_asked_takes_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter([self / pattern]))
    assert device_bytes(Settings(home=tmp_path, device="cuda:99")) is None


def _submit(place: Workplace, name: str, memory_bytes: int) -> str:
    job_id = place.submit(name)
    with place.database.transaction() as session:
        jobs.get(session, job_id).memory_bytes = memory_bytes
    return job_id


@SQLITE
def test_each_job_goes_to_a_worker_that_has_the_memory(place: Workplace) -> None:
    large, small = _submit(place, "large", 20 * GIB), _submit(place, "small", 2 * GIB)
    little = environment(place.settings.model_copy(update={"device_bytes": 8 * GIB}))
    with running(["tests.support.busy_worker"], little) as first:
        assert place.comes_to(small, "succeeded"), "a job that waits for another worker is in nobody's way"
        assert place.job(large).state == "queued"
        much = environment(place.settings.model_copy(update={"device_bytes": 80 * GIB}))
        with running(["tests.support.busy_worker"], much) as second:
            assert place.comes_to(large, "succeeded")
            assert str(place.job(small).worker).endswith(f":{first.pid}")
            assert str(place.job(large).worker).endswith(f":{second.pid}")
