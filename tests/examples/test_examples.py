"""The examples run as a reader would run them, with fewer steps."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.service import Service

ROOT = Path(__file__).resolve().parents[2]


def run(module: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", module],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "STEPS": "20", "TRAINING_STEPS": "60", **environment},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_transplant_in_a_notebook() -> None:
    out = run("examples.transplant_in_a_notebook")
    accuracies = re.findall(
        r"^(teacher|no adapter|transplant) +balanced accuracy (0\.\d{3}|1\.000)$", out, re.MULTILINE
    )
    assert [name for name, _ in accuracies] == ["teacher", "no adapter", "transplant"]
    assert float(accuracies[0][1]) > 0.8


@pytest.mark.slow
def test_the_quickstart(service: Service) -> None:
    out = run("examples.quickstart", GRAFTERY_URL=service.url)
    for text in ("job succeeded", "adapter", "identity", "teacher", "is it an 8? ['"):
        assert text in out
    with service.client() as client:
        assert client.inspect("eight-in-digits").kind == "network"
