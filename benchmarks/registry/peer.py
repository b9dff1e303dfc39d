"""MLflow's tracking server with its model registry: its environment, its rows, and how it is started and asked."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from sqlalchemy import URL

from benchmarks.registry.backing import plain
from benchmarks.registry.measuring import Ask
from benchmarks.registry.seed import ALIAS, PER_NAME
from benchmarks.serving.contenders import Running
from benchmarks.serving.processes import BenchError, Tree, cores, free_port, wait_until

PEERS = Path(__file__).resolve().parent / "peers"
API = "/api/2.0/mlflow"
POOL = 40
"""Connections to the database that it may have: as many as its threads, so that none waits for one."""


@dataclass(frozen=True)
class Setting:
    """A setting of its server that is tried."""

    title: str
    options: tuple[str, ...]


SETTINGS = (
    Setting("uvicorn, its default", ()),
    Setting("gunicorn, 16 threads", ("--gunicorn-opts", "--worker-class gthread --threads 16 --keep-alive 60")),
)


def setting(title: str) -> Setting:
    return next(one for one in SETTINGS if one.title == title)


def python_of(scratch: Path) -> Path:
    return scratch / "envs" / "mlflow" / "bin" / "python"


def make_environment(scratch: Path, say: Any) -> dict[str, str]:
    """Its own environment, made once for its requirements; returns the versions in it.

    Raises:
        BenchError: pip refused.
    """
    wanted = PEERS / "mlflow" / "requirements.txt"
    mark, folder = scratch / "envs" / "mlflow.sha256", scratch / "envs" / "mlflow"
    digest = hashlib.sha256(wanted.read_bytes()).hexdigest()
    if not (mark.exists() and mark.read_text() == digest and folder.exists()):
        say("making the environment of MLflow")
        folder.parent.mkdir(parents=True, exist_ok=True)
        _call([sys.executable, "-m", "venv", "--clear", str(folder)])
        pip = [str(python_of(scratch)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _call([*pip, "--requirement", str(wanted)])
        mark.write_text(digest)
    packages = ("mlflow", "sqlalchemy", "psycopg2-binary", "fastapi", "flask", "uvicorn", "gunicorn")
    code = (
        "import importlib.metadata as m, json, platform;"
        f"print(json.dumps({{p: m.version(p) for p in {packages}}} | {{'python': platform.python_version()}}))"
    )
    return dict(json.loads(_call([str(python_of(scratch)), "-c", code])))


def fill(scratch: Path, database: URL, names: Sequence[str]) -> None:
    """Write the same names, versions and aliases as ours has.

    Raises:
        BenchError: it failed.
    """
    plan = {"url": plain(database, "psycopg2"), "names": list(names), "per_name": PER_NAME, "alias": ALIAS}
    path = scratch / "mlflow-fill.json"
    path.write_text(json.dumps(plan))
    _call([str(python_of(scratch)), str(PEERS / "mlflow" / "fill.py"), str(path)], _quiet(scratch))


def _call(command: list[str], environment: dict[str, str] | None = None) -> str:
    env = os.environ | (environment or {})
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False, env=env)
    if done.returncode:
        raise BenchError(f"mlflow: {' '.join(command[-3:])} failed: {done.stderr.strip()[-300:]}")
    return done.stdout


def _quiet(scratch: Path) -> dict[str, str]:
    """No calls home, and none of its background jobs, which are not asked here."""
    return {
        "PATH": f"{python_of(scratch).parent}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": str(POOL),
        "MLFLOW_LOGGING_LEVEL": "WARNING",
    }


def serve(scratch: Path, database: URL, setting: Setting) -> Running:
    """Start its server with one worker process, on the server's core, and wait until it answers."""
    port, folder = free_port(), scratch / "mlflow"
    folder.mkdir(parents=True, exist_ok=True)
    command = [str(python_of(scratch)), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", plain(database, "psycopg2"), "--no-serve-artifacts"]
    command += ["--default-artifact-root", str(folder / "artifacts"), *setting.options]
    tree = Tree(command, _quiet(scratch), cores()[1], folder, folder / f"{port}.log")
    try:
        wait_until(tree, f"http://127.0.0.1:{port}/health", "MLflow")
    except BaseException:
        tree.end()
        raise
    tree.pin()
    return Running("mlflow", tree, port, "", "")


def get_version(name: str, number: int) -> Ask:
    found = (f'"name":"{name}"', f'"version":"{number}"')
    return Ask("GET", f"{API}/model-versions/get?{urlencode({'name': name, 'version': number})}", found)


def get_alias(name: str) -> Ask:
    found = (f'"name":"{name}"', '"version":"1"')
    return Ask("GET", f"{API}/registered-models/alias?{urlencode({'name': name, 'alias': ALIAS})}", found)


def list_versions(name: str) -> Ask:
    wanted = {"filter": f"name='{name}'", "max_results": 50, "order_by": "version_number DESC"}
    path = f"{API}/model-versions/search?{urlencode(wanted, quote_via=quote)}"
    return Ask("GET", path, tuple(f'"version":"{number}"' for number in range(1, PER_NAME + 1)))


def list_names(_name: str) -> Ask:
    return Ask("GET", f"{API}/registered-models/search?max_results=50", ('"name":"net-000000"',))


def set_alias(name: str, number: int) -> Ask:
    body = {"name": name, "alias": "moved", "version": str(number)}
    return Ask("POST", f"{API}/registered-models/alias", ("{}",), body)


def describe(name: str, number: int) -> Ask:
    body = {"name": name, "description": f"described {number}"}
    return Ask("PATCH", f"{API}/registered-models/update", (f'"name":"{name}"',), body)
