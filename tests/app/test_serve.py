"""The supervisor over real processes: one start, one end, whoever is killed in between."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
import pytest

from app import serve
from app.serve import _gpu, main
from registry.settings import Settings
from tests.support.processes import environment, eventually, family, gone, running

START_S = 60.0


@dataclass
class Served:
    process: subprocess.Popen[bytes]
    home: Path

    @property
    def url(self) -> str:
        return str(json.loads((self.home / "serve.json").read_text())["url"])

    @property
    def pid(self) -> int | None:
        """Of the supervisor that has announced itself; None before."""
        path = self.home / "serve.json"
        return int(json.loads(path.read_text())["pid"]) if path.exists() else None

    def everyone(self) -> list[psutil.Process]:
        return family(self.process.pid)

    def parts(self, words: str) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):  # one that ended meanwhile
            return [each for each in self.everyone() if words in " ".join(each.cmdline())]
        return []

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health/ready", timeout=30) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False


@contextmanager
def serving(home: Path, *arguments: str, prechecks: int = 0) -> Iterator[Served]:
    command = ["app.serve", "--home", str(home), "--port", "0", "--planes", "registry,worker", *arguments]
    with running(command, environment(Settings(home=home, prechecks=prechecks)), stdout=subprocess.PIPE) as process:
        served = Served(process, home)
        assert eventually(lambda: served.pid == process.pid or process.poll() is not None, START_S)
        assert process.poll() is None
        yield served


def test_it_says_where_it_is_and_ends_cleanly(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        assert served.process.stdout is not None
        assert served.url in served.process.stdout.readline().decode()
        assert served.answers()
        assert json.loads((tmp_path / "serve.json").read_text())["pid"] == served.process.pid
        everyone = served.everyone()
        assert any("worker" in each.cmdline() for each in everyone)
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(timeout=30) == 0
        assert gone(everyone, within_s=2)
        assert not (tmp_path / "serve.json").exists()


@pytest.mark.slow
def test_kill_9_of_the_supervisor_leaves_nothing(tmp_path: Path) -> None:
    with serving(tmp_path, prechecks=1) as served:
        everyone = served.everyone()
        assert len(everyone) >= 3
        served.process.kill()
        assert gone(everyone, within_s=60)
    with serving(tmp_path) as again:
        assert again.answers(), "the home is not blocked by what the dead one left"
        again.process.terminate()
        again.process.wait(timeout=30)


@pytest.mark.slow
@pytest.mark.parametrize("words", ["app.api", "-m worker"])
def test_what_dies_is_started_again(tmp_path: Path, words: str) -> None:
    with serving(tmp_path) as served:
        url, victim = served.url, served.parts(words)[0]
        below = victim.children(recursive=True)
        victim.kill()
        assert gone([victim, *below], within_s=60), "a verifier that is still loading ends when it has loaded"
        assert served.answers(), "who calls while the API is away waits, and is not refused"
        assert eventually(lambda: served.parts(words))
        assert served.url == url
        served.process.terminate()
        assert served.process.wait(timeout=30) == 0


@pytest.mark.slow
def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        everyone = served.everyone()
        for each in everyone[1:]:
            each.suspend()  # so that they cannot end by themselves
        served.process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert served.process.poll() is None
        served.process.send_signal(signal.SIGINT)
        served.process.wait(timeout=6)
        assert gone(everyone, within_s=2)


@pytest.mark.slow
def test_one_supervisor_a_home(tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "0") as served:
        other = subprocess.run(
            [sys.executable, "-m", "app.serve", "--home", str(tmp_path), "--port", "0"],
            capture_output=True,
            text=True,
            timeout=20,
        )
        assert other.returncode == 1
        assert f"process {served.process.pid} at {served.url}" in other.stderr
        assert other.stderr.count("\n") == 1 and served.answers()
        served.process.terminate()
        served.process.wait(timeout=30)


def test_a_port_that_is_taken_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["--home", str(tmp_path), "--port", str(taken.getsockname()[1])]) == 1
    error = capsys.readouterr().err
    assert "Address already in use" in error and "--port" in error and error.count("\n") == 1


def test_a_grpc_port_that_is_taken_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        arguments = ["--port", "0", "--grpc-port", str(taken.getsockname()[1])]
        assert main(["--home", str(tmp_path), *arguments]) == 1
    error = capsys.readouterr().err
    assert "Address already in use" in error and "--grpc-port" in error and error.count("\n") == 1


def is_live(address: str) -> bool:
    with grpc.insecure_channel(address) as channel:
        live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
        return bool(live(b"", timeout=60, wait_for_ready=True) == b"\x08\x01")


@pytest.mark.slow
def test_inference_answers_grpc_and_says_where_also_after_it_died(tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "0", "--grpc-port", "0", "--planes", "inference") as served:
        assert served.process.stdout is not None
        address = json.loads((tmp_path / "serve.json").read_text())["grpc"]
        assert f"gRPC at {address}" in served.process.stdout.readline().decode()
        assert is_live(address)
        victim = served.parts("app.api")[0]
        victim.kill()
        assert gone([victim], within_s=60)
        assert is_live(address)
        served.process.terminate()
        assert served.process.wait(timeout=30) == 0


@pytest.mark.parametrize("arguments", [["--port", "seven"], ["--planes", "orbit"], ["--workers", "-1"]])
def test_arguments_that_cannot_be_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert main(["--home", str(tmp_path), *arguments]) == 1
    error = capsys.readouterr().err
    assert arguments[0][2:] in error and error.count("\n") == 1


@pytest.mark.parametrize(("planes", "workers"), [("registry,inference,worker", 2), ("registry,inference", 0)])
def test_workers_are_a_plane(tmp_path: Path, planes: str, workers: int) -> None:
    settings = serve._settings(["--planes", planes, "--workers", "2"])
    with socket.create_server(("127.0.0.1", 0)) as listening:
        parts = serve._parts(settings, tmp_path, listening)
    assert [part.name for part in parts] == ["api", *(f"worker-{i}" for i in range(workers))]


def test_one_gpu_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    assert [_gpu(i)["CUDA_VISIBLE_DEVICES"] for i in range(3)] == ["4", "6", "4"]


def test_who_may_ask_is_told_to_every_part(tmp_path: Path) -> None:
    settings = serve._settings(["--access", "keys", "--host", "0.0.0.0"])
    with socket.create_server(("127.0.0.1", 0)) as listening:
        parts = serve._parts(settings, tmp_path, listening)
    told = {part._environment["GRAFTERY_ACCESS"] for part in parts}
    assert told == {"keys"}
    assert {part._environment["GRAFTERY_HOST"] for part in parts} == {"0.0.0.0"}
