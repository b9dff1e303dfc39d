"""What must never load torch: it costs seconds and hundreds of megabytes, and does not survive a fork."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT

WITHOUT_TORCH = {
    "the worker's parent": "import worker.tasks, worker.parent, worker.__main__",
    "the child before it is told what it runs": "import worker.child",
    "the supervisor": "import app.serve",
    "the API process": "import app.api, app.main",
    "the app with inference off": "from app.main import create_app; create_app()",
    "the registry": "import registry.catalogue, registry.jobs, registry.queue, registry.collect, registry.store",
    "the vocabulary": "import graftery, graftery.spec.wire, graftery.spec.plan, graftery.spec.fit",
}


def loaded(code: str, module: str, home: Path) -> bool:
    """Whether the code, run in a process of its own, loads the module."""
    env = {**os.environ, "GRAFTERY_PLANES": "registry", "GRAFTERY_HOME": str(home)}
    script = f"import sys\n{code}\nsys.stderr.write(str({module!r} in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stderr.endswith("True")


@pytest.mark.parametrize("code", WITHOUT_TORCH.values(), ids=WITHOUT_TORCH.keys())
def test_torch_is_not_loaded(code: str, tmp_path: Path) -> None:
    assert not loaded(code, "torch", tmp_path)


def test_the_check_sees_torch(tmp_path: Path) -> None:
    assert loaded("import worker.device", "torch", tmp_path)
