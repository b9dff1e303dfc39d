"""Processes that share what they measure: real ones, on one file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.compat.measuring import Bench
from benchmarks.compat.protocol import cells
from benchmarks.generic.nets import Store
from benchmarks.locks import held
from benchmarks.running import watching
from benchmarks.transplant.worlds import WORLDS
from benchmarks.transplant.worlds.base import Trained
from benchmarks.transplant.zoo import Zoo
from benchmarks.writing import write_whole
from graftery.module import ModuleFile
from tests.support import skills
from tests.support.measuring import COUNT, Numbered, measured, opened

ROOT = Path(__file__).resolve().parents[2]


def _workers(folder: Path, count: int, *what: str) -> list[subprocess.Popen[bytes]]:
    """Processes that do this; all begin at once."""
    command = [sys.executable, "-m", "tests.support.measuring", str(folder), *what]
    made = [subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}) for _ in range(count)]
    while sum((folder / f"ready-{each.pid}").exists() for each in made) < count:
        assert all(each.poll() is None for each in made)
        time.sleep(0.02)
    (folder / "go").touch()
    return made


@pytest.mark.slow
def test_processes_divide_the_cells_and_lose_none(tmp_path: Path) -> None:
    workers = _workers(tmp_path, 2, "cells", "0.1")
    assert [each.wait(60) for each in workers] == [0, 0]
    kept = opened(tmp_path)
    trials = kept.facts["tuning"]["digits"]["trials"]
    assert kept.count == len(trials) == COUNT
    assert {cell["by"] for cell in kept} == {each.pid for each in workers}
    assert sorted((tmp_path / "log").read_text().split(), key=int) == [str(number) for number in range(COUNT)]
    assert {path.name for path in (tmp_path / "cells.locks").iterdir()} == set()


@pytest.mark.slow
def test_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    workers = _workers(tmp_path, 2, "puts", "50")
    assert [each.wait(60) for each in workers] == [0, 0]
    assert opened(tmp_path).count == 100


def test_what_a_dead_process_was_at_is_free(tmp_path: Path) -> None:
    (worker,) = _workers(tmp_path, 1, "cells", "600")
    while not opened(tmp_path).facts.get("tuning"):
        time.sleep(0.02)
    assert measured(opened(tmp_path), count=1) == []
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    assert measured(opened(tmp_path), count=1) == [0]


def test_what_another_process_put_meanwhile_is_not_measured_again(tmp_path: Path) -> None:
    kept, other = opened(tmp_path), opened(tmp_path)
    assert not kept.has("0/some row")
    other.put("0/some row", {"number": 0, "by": 1})
    assert kept.has("0/some row", {"number": 0})

    def one(cell: Numbered, _tell: Any) -> dict[str, Any]:
        assert cell.where["number"] == 1
        other.put("2/some row", {"number": 2})
        return {}

    with watching() as watch:
        watch.measure([Numbered(number) for number in range(3)], kept, one)
    assert kept.count == 3


def test_of_a_fact_what_has_other_keys_stays_and_a_cell_is_replaced(tmp_path: Path) -> None:
    kept, other = opened(tmp_path), opened(tmp_path)
    kept.keep("tuning", {"digits": {"trials": {"one": {"a": 0.1}}, "chosen": {"one": 1}}})
    other.keep("tuning", {"digits": {"trials": {"one": {"b": 0.2}, "two": {"a": 0.3}}}, "cifar10": {}})
    trials = {"one": {"a": 0.1, "b": 0.2}, "two": {"a": 0.3}}
    assert kept.facts["tuning"] == {"digits": {"trials": trials, "chosen": {"one": 1}}, "cifar10": {}}
    kept.put("cell", {"refused": "diverged"})
    other.put("cell", {"mean": 0.5})
    assert list(kept) == [{"mean": 0.5}]


def test_a_lock_is_one_process_s_and_its_file_goes_with_it(tmp_path: Path) -> None:
    path = tmp_path / "some" / "lock"
    with held(path) as ours, held(path, wait=False) as other:
        assert (ours, other) == (True, False)
        assert path.exists()
    assert not path.exists()
    with held(path, wait=False) as again:
        assert again


def test_what_is_cut_short_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "page.md"
    write_whole(path, "whole")
    monkeypatch.setattr(Path, "replace", None)
    with pytest.raises(TypeError):
        write_whole(path, "half")
    assert path.read_text() == "whole"
    assert [each.name for each in tmp_path.iterdir()] == ["page.md"]


def _zoo(folder: Path, made: Callable[[], ModuleFile]) -> object:
    zoo = Zoo(WORLDS["digits"](None, folder), folder, str)
    zoo.world.teacher = lambda *_: Trained(made(), 1.0)  # type: ignore[method-assign]
    return zoo.teacher("3", 0)


def _store(folder: Path, made: Callable[[], ModuleFile]) -> object:
    return Store(folder, str)("nets", lambda: ({"one": made()}, {}))


def _compat(folder: Path, made: Callable[[], ModuleFile]) -> object:
    class Trains(Bench):
        def _train(self, *_: Any) -> dict[str, ModuleFile]:
            return {"task0": made()}

    return Trains(None, folder)._trained(next(iter(cells())), [SimpleNamespace(name="task0")])  # type: ignore


@pytest.mark.parametrize("kept", [_zoo, _store, _compat], ids=["transplant", "generic", "compat"])
def test_nets_that_another_one_trains_are_waited_for(
    kept: Callable[[Path, Callable[[], ModuleFile]], object], tmp_path: Path
) -> None:
    """Locks are those of files that were opened: threads stand for processes."""
    trained: list[int] = []

    def made() -> ModuleFile:
        trained.append(1)
        time.sleep(0.3)
        return skills.raw()

    with ThreadPoolExecutor() as pool:
        assert len(list(pool.map(lambda _: kept(tmp_path, made), range(2)))) == 2
    assert len(trained) == 1
