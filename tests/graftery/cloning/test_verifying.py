"""The child that checks uploads also puts clones into networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from graftery.cloning.networks import whole
from graftery.cloning.verifying import ACTIONS
from graftery.module import ModuleFile
from graftery.module.protocol import answer
from tests.support import clones


@pytest.fixture(autouse=True)
def unbounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bounds are of a process, and this one has other tests to do."""
    from contextlib import nullcontext

    monkeypatch.setattr("graftery.module.protocol.bounded", lambda *_, **__: nullcontext())


def _asked(folder: Path, members: dict[str, ModuleFile]) -> dict[str, Any]:
    paths = {role: str(folder / role) for role in members}
    for role, file in members.items():
        file.save(paths[role])
    request = {"id": 1, "action": "attachment", "path": paths.pop("category"), "files": paths}
    return answer(json.dumps(request), ACTIONS)


def test_what_goes_together(tmp_path: Path) -> None:
    category, task = clones.animals()
    members = {"category": category, "task": task, "clone.0": clones.made()}
    assert _asked(tmp_path, members) == {"id": 1, "ok": {"content_digest": whole(members).content_digest}}


def test_what_does_not(tmp_path: Path) -> None:
    category, task = clones.birds()
    found = _asked(tmp_path, {"category": category, "task": task, "clone.0": clones.made()})
    assert found["problem"]["code"] == "target_changed"
