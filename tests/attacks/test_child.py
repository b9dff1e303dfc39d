"""The verifier's child meets every hostile file in one life: right codes, flat memory, alive at the end."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from graftery.module import ModuleFile
from tests.support.hostile import HOSTILE
from tests.support.hostile_parts import document, floats, good, header_of, module, packed, tensors

MIB = 1024**2
Ask = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def child() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "graftery.module.verify", "--serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == {"ready": True}
        yield process
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(30) == 0


@pytest.fixture
def ask(child: subprocess.Popen[str]) -> Ask:
    def ask(action: str, path: Path, **more: Any) -> dict[str, Any]:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps({"id": 7, "action": action, "path": str(path), **more}) + "\n")
        child.stdin.flush()
        answer: dict[str, Any] = json.loads(child.stdout.readline())
        assert answer.pop("id") == 7
        return answer

    return ask


@pytest.fixture
def good_path(tmp_path: Path) -> Path:
    path = tmp_path / "good.safetensors"
    path.write_bytes(good())
    return path


def test_hostile_files_leave_the_child_as_it_was(
    ask: Ask, child: subprocess.Popen[str], good_path: Path, tmp_path: Path
) -> None:
    assert "ok" in ask("verify", good_path)
    before = _peak(child)
    for name, (write, code) in HOSTILE.items():
        path = tmp_path / f"{name}.bin"
        write(path)
        assert ask("verify", path)["problem"]["code"] == code, name
        path.unlink()
    assert _peak(child) - before < 96 * MIB
    assert "ok" in ask("verify", good_path)


def _peak(child: subprocess.Popen[str]) -> int:
    """The largest resident memory of the process so far, in bytes."""
    status = Path(f"/proc/{child.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def test_verify_answers_manifest_and_facts(ask: Ask, good_path: Path) -> None:
    ok = ask("verify", good_path)["ok"]
    assert ok["manifest"]["kind"] == "category"
    assert ok["facts"]["content_digest"] == ModuleFile.load(good_path).content_digest


def _adding(path: Path, *nodes: list[Any]) -> Path:
    """A file whose output is x0 + the last value, which is a number."""
    last = ["aten.add.Tensor", "v9999", [{"v": "x0"}, {"v": nodes[-1][1]}]]
    held = tensors(**{"weight": None, "probe.y": ("F32", [2, 4], bytes(32))})
    path.write_bytes(module(document([*nodes, last], outputs={"features": "v9999"}, shape_out=["N", 4]), held))
    return path


def test_memory_is_bounded_and_the_bound_is_lifted_again(ask: Ask, tmp_path: Path) -> None:
    """Half a GiB of zeros is within the usual bound."""
    zeros = ["aten.zeros.default", "v0", [[2**27]]]
    path = _adding(tmp_path / "large", zeros, ["aten.sum.default", "v1", [{"v": "v0"}]])
    assert ask("verify", path, limits={"memory_base_bytes": 64 * MIB})["problem"]["code"] == "verify_limit"
    assert "ok" in ask("verify", path)


def test_processor_time_is_bounded_and_the_bound_is_lifted_again(ask: Ask, tmp_path: Path, good_path: Path) -> None:
    """Two thousand products of 2^11 x 2^11 take long on one thread; a second is allowed."""
    zeros = ["aten.zeros.default", "v0", [[2048, 2048]]]
    products = [["aten.mm.default", f"v{i}", [{"v": f"v{i - 1}"}, {"v": "v0"}]] for i in range(1, 2000)]
    path = _adding(tmp_path / "slow", zeros, *products, ["aten.sum.default", "v2000", [{"v": "v1999"}]])
    answer = ask("verify", path, limits={"cpu_s": 1, "flops_per_sample": 2**60, "elements_per_sample": 2**60})
    assert answer["problem"]["code"] == "verify_limit"
    assert "ok" in ask("verify", good_path)


def test_requests_that_cannot_be_read_are_answered(ask: Ask, tmp_path: Path, good_path: Path) -> None:
    assert ask("verify", tmp_path / "absent")["problem"]["code"] == "internal"
    assert ask("dance", good_path)["problem"]["code"] == "internal"


def _samples(path: Path, **held: tuple[str, list[int], bytes]) -> Path:
    path.write_bytes(packed(header_of(held, None), b"".join(data for *_, data in held.values())))
    return path


def test_samples_are_checked(ask: Ask, tmp_path: Path) -> None:
    x = ("F32", [3, 2], floats(3, 2))
    path = _samples(tmp_path / "s", x=x, y=("I64", [3], bytes(24)))
    assert ask("samples", path)["ok"]["facts"] == {
        "count": 3,
        "labelled": True,
        "x": {"dtype": "float32", "shape": ["N", 2]},
        "y": {"dtype": "int64", "shape": ["N"]},
        "labels": {"least": 0.0, "greatest": 0.0, "whole": True, "classes": [0]},
    }


@pytest.mark.parametrize(
    "held",
    [
        {"y": ("I64", [3], bytes(24))},
        {"x": ("F32", [3, 2], floats(3, 2)), "z": ("F32", [1], bytes(4))},
        {"x": ("I64", [3, 2], bytes(48))},
        {"x": ("F32", [3], bytes(12))},
        {"x": ("F32", [3, 2], floats(3, 2)), "y": ("I64", [2], bytes(16))},
        {"x": ("F32", [3, 2], floats(3, 2, value=float("nan")))},
        {"x": ("F32", [3, 2], floats(3, 2, value=float("inf")))},
        {"x": ("F32", [3, 2], floats(3, 2, value=float("-inf")))},
    ],
    ids=["no_x", "more", "integers", "rank_1", "fewer_labels", "nan", "inf", "minus_inf"],
)
def test_bad_samples_are_refused(ask: Ask, tmp_path: Path, held: dict[str, Any]) -> None:
    assert ask("samples", _samples(tmp_path / "s", **held))["problem"]["code"] == "samples_invalid"
