"""Who is measured: the peers with the settings that are tried of each, and how each is started and asked."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.serving.processes import BenchError, Tree, cores, free_port, wait_until

ROOT = Path(__file__).resolve().parents[2]
PEERS = Path(__file__).resolve().parent / "peers"
TORCH = "torch==2.13.0"
ENGINES = ("torch", "onnx")


@dataclass(frozen=True)
class Setting:
    """One setting of a peer that is tried."""

    title: str
    batch: int = 1
    wait_ms: float = 0.0
    mode: str = ""


@dataclass(frozen=True)
class Peer:
    """Another server.

    Args:
        settings: those that are tried; the one with the highest throughput in the screening is taken.
        paths: content (json, raw, jpeg) to path and form.
        ready: what answers 200 when it can be asked.
    """

    name: str
    title: str
    package: str
    settings: tuple[Setting, ...]
    paths: Mapping[str, tuple[str, str]]
    ready: str
    freezes: bool = True
    """Whether it survives being stopped for a while."""


PLAIN = Peer(
    "plain",
    "FastAPI + torch",
    "fastapi",
    (Setting("in the event loop"), Setting("in the thread pool", mode="thread pool")),
    {"json": ("/predict", "flat-json"), "raw": ("/raw/{model}", "raw"), "jpeg": ("/image/{model}", "jpeg-body")},
    "/health",
)
LITSERVE = Peer(
    "litserve",
    "LitServe",
    "litserve",
    (
        Setting("no batching, fast queue", mode="fast queue"),
        Setting("max_batch_size 16, batch_timeout 2 ms, fast queue", 16, 2.0, "fast queue"),
        Setting("max_batch_size 16, batch_timeout 2 ms", 16, 2.0),
    ),
    {"json": ("/predict", "flat-json"), "jpeg": ("/predict", "jpeg-base64")},
    "/health",
)
BENTOML = Peer(
    "bentoml",
    "BentoML",
    "bentoml",
    (Setting("no batching"), Setting("batchable, max_batch_size 32", 32)),
    {"json": ("/{model}", "rows-json"), "jpeg": ("/{model}", "jpeg-body")},
    "/readyz",
)
# parallel_workers 1, its default, moves the net to a second process, which dies at its start with the uvloop that it installs.
MLSERVER = Peer(
    "mlserver",
    "MLServer",
    "mlserver",
    (
        Setting("no batching, parallel_workers 0"),
        Setting("max_batch_size 16, max_batch_time 5 ms, parallel_workers 0", 16, 5.0),
    ),
    {"json": ("/v2/models/{model}/infer", "v2-json"), "jpeg": ("/v2/models/{model}/infer", "v2-jpeg-base64")},
    "/v2/health/ready",
)
RAY = Peer(
    "ray",
    "Ray Serve",
    "ray",
    (Setting("no batching"), Setting("@serve.batch 16, batch_wait_timeout_s 0.002", 16, 2.0)),
    {"json": ("/", "flat-json"), "jpeg": ("/", "jpeg-body")},
    "/",
    freezes=False,
)
ALL = {peer.name: peer for peer in (PLAIN, LITSERVE, BENTOML, MLSERVER, RAY)}


@dataclass(frozen=True)
class Entry:
    """A peer with an engine and a setting: one contender."""

    peer: Peer
    engine: str
    setting: Setting

    @property
    def key(self) -> str:
        return f"{self.peer.name}/{self.engine}"

    @property
    def title(self) -> str:
        return f"{self.peer.title}, {self.engine}"


def entries(peers: list[str], engines: tuple[str, ...] = ENGINES, settings: int | None = None) -> Iterator[Entry]:
    """Every contender with every setting that is tried, or with so many of the last ones."""
    for name, engine in itertools.product(peers, engines):
        for setting in ALL[name].settings[-settings if settings else None :]:
            yield Entry(ALL[name], engine, setting)


def python_of(scratch: Path, name: str) -> Path:
    return scratch / "envs" / name / "bin" / "python"


def make_environment(scratch: Path, name: str, torch_index: str | None, say: Any = print) -> dict[str, str]:
    """The peer's own environment, made once for its requirements; returns the versions in it.

    Raises:
        BenchError: pip refused; the reason is kept in the document.
    """
    wanted = PEERS / name / "requirements.txt"
    mark, folder = scratch / "envs" / f"{name}.sha256", scratch / "envs" / name
    digest = hashlib.sha256(wanted.read_bytes()).hexdigest()
    if not (mark.exists() and mark.read_text() == digest and folder.exists()):
        say(f"making the environment of {name}")
        folder.parent.mkdir(parents=True, exist_ok=True)
        _call([sys.executable, "-m", "venv", "--clear", str(folder)], name)
        pip = [str(python_of(scratch, name)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        # First and alone: it is to come from the index that has the CPU build.
        _call([*pip, *(["--index-url", torch_index] if torch_index else []), TORCH], name)
        _call([*pip, "--requirement", str(wanted)], name)
        mark.write_text(digest)
    code = (
        "import importlib.metadata as m, json, platform;"
        f"print(json.dumps({{p: m.version(p) for p in ('{ALL[name].package}', 'torch', 'onnxruntime', 'numpy')}}"
        " | {'python': platform.python_version()}))"
    )
    return dict(json.loads(_call([str(python_of(scratch, name)), "-c", code], name)))


def _call(command: list[str], name: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    if done.returncode:
        raise BenchError(f"{name}: {' '.join(command[-3:])} failed: {done.stderr.strip()[-300:]}")
    return done.stdout


@dataclass
class Running:
    """A server that can be asked: its tree, and how a model's requests look."""

    key: str
    tree: Tree
    port: int
    path: str
    form: str
    freezes: bool = True

    def freeze(self) -> None:
        if self.freezes:
            self.tree.freeze()

    def thaw(self) -> None:
        if self.freezes:
            self.tree.thaw()


def start_peer(
    entry: Entry, scratch: Path, *, net: str, content: str, models: Mapping[str, int], nets: Path
) -> Running:
    """Start a peer's server on the server's core and wait until it answers.

    Args:
        models: of each name, its seed.
        nets: the folder of the ONNX files.
    """
    port, (path, form) = free_port(), entry.peer.paths[content]
    job = {
        "port": port,
        "net": net,
        "engine": entry.engine,
        "content": content,
        "models": dict(models),
        "folder": str(nets),
        "batch": entry.setting.batch,
        "wait_ms": entry.setting.wait_ms,
        "mode": entry.setting.mode,
    }
    folder = scratch / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    environment = {"BENCH_JOB": json.dumps(job), "PYTHONPATH": str(ROOT), **_quiet(scratch, entry.peer.name)}
    command = [str(python_of(scratch, entry.peer.name)), "-m", f"benchmarks.serving.peers.{entry.peer.name}.server"]
    tree = Tree(command, environment, cores()[1], folder, folder / f"{entry.peer.name}-{port}.log")
    try:
        wait_until(tree, f"http://127.0.0.1:{port}{entry.peer.ready}", entry.title)
    except BaseException:
        tree.end()
        raise
    tree.pin()
    return Running(entry.key, tree, port, path, form, entry.peer.freezes)


def _quiet(scratch: Path, name: str) -> dict[str, str]:
    """No calls home, and no files outside the scratch folder."""
    bin_folder = python_of(scratch, name).parent
    return {
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "BENTOML_HOME": str(scratch / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
        "RAY_DISABLE_IMPORT_WARNING": "1",
        "LITSERVE_DISABLE_TELEMETRY": "1",
    }
