"""`python -m graftery.module.verify FILE`; `--serve` is tested in tests/attacks/test_child.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import torch

from graftery.module import trace
from graftery.module.protocol import answer
from tests.support.corpus import made
from tests.support.hostile import HOSTILE
from tests.support.hostile_parts import good
from tests.support.processes import eventually, gone


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "graftery.module.verify", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_facts_of_a_good_file(tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes(good())
    done = _run(str(tmp_path / "good"))
    assert done.returncode == 0
    assert json.loads(done.stdout)["operators"] == ["aten.linear.default"]


def test_problem_of_a_bad_file(tmp_path: Path) -> None:
    HOSTILE["pickle"][0](tmp_path / "bad")
    done = _run(str(tmp_path / "bad"))
    assert done.returncode == 1
    problem = json.loads(done.stdout)
    assert problem["code"] == "module_file_invalid"
    assert "pickle" in problem["message"]
    assert problem["hint"]


def test_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    done = _run(str(tmp_path / "absent"))
    assert done.returncode == 2
    assert "absent" in done.stderr


def test_split_writes_checked_parts(tmp_path: Path) -> None:
    trace(made("two"), torch.zeros(2, 3, 8, 8)).save(tmp_path / "teacher")
    request = {"id": 1, "action": "split", "path": str(tmp_path / "teacher"), "cut": "trunk", "out_dir": str(tmp_path)}
    ok = answer(json.dumps(request))["ok"]
    assert ok["teacher"]["manifest"]["kind"] == "teacher"
    assert ok["tasks"].keys() == {"cat", "dog"}
    for part in (ok["category"], *ok["tasks"].values()):
        verified = answer(json.dumps({"id": 2, "action": "verify", "path": part["path"]}))["ok"]
        assert verified == {"manifest": part["manifest"], "facts": part["facts"]}


def test_split_tells_of_a_bad_cut(tmp_path: Path) -> None:
    trace(made("two"), torch.zeros(2, 3, 8, 8)).save(tmp_path / "teacher")
    request = {"id": 1, "action": "split", "path": str(tmp_path / "teacher"), "cut": "trunc", "out_dir": str(tmp_path)}
    problem = answer(json.dumps(request))["problem"]
    assert problem["code"] == "cut_not_found"
    assert "trunk" in problem["near"]


def test_what_libraries_print_is_no_answer() -> None:
    code = "from graftery.module.protocol import _own_stdout as own; out = own(); print('noise', flush=True); out.write('answer')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr.strip()) == ("answer", "noise")


_STARTS_A_CHECKER = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-m", "graftery.module.verify", "--serve"], stdin=int(sys.argv[1]),
                         stdout=subprocess.DEVNULL, pass_fds=[int(sys.argv[1])])
print(child.pid, flush=True)
child.wait()
"""


def test_a_checker_ends_with_who_started_it_even_while_torch_loads() -> None:
    """Its stdin stays open: what ends it is not the end of a pipe."""
    read, write = os.pipe()
    starter = subprocess.Popen(
        [sys.executable, "-c", _STARTS_A_CHECKER, str(read)], stdout=subprocess.PIPE, pass_fds=[read], text=True
    )
    assert starter.stdout is not None
    checker = psutil.Process(int(starter.stdout.readline()))
    try:
        assert eventually(lambda: checker.num_threads() > 1), "it has not come to watch who started it"
        starter.kill()
        starter.wait()
        assert gone([checker], 10.0)
    finally:
        starter.stdout.close()
        os.close(read)
        os.close(write)
