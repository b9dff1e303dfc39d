"""A service of the demo's own: `graftery serve` in a folder of its own, ended with the demo."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

START_TIMEOUT_S = 90
END_TIMEOUT_S = 30


@contextmanager
def service(home: Path, port: int) -> Iterator[str]:
    """Start `graftery serve` and give its address; end it at the end, whatever happens in between."""
    log = home / "demo.log"
    home.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "graftery.client.cli", "serve", "--home", str(home), "--port", str(_free(port))]
    with log.open("wb") as output:
        # A session of its own: Ctrl-C in the terminal reaches the demo, which then ends the service in order.
        # Bits are compared, and a faster form that comes between two answers differs in the last ones: eager alone.
        environment = {"GRAFTERY_THREADS": "1", "GRAFTERY_FAST_FORMS": "off", **os.environ}
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        try:
            yield _address(process, home, log)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _free(port: int) -> int:
    """The port, or 0 (any that is free) where somebody listens on it already."""
    with closing(socket.socket()) as probe:
        return 0 if probe.connect_ex(("127.0.0.1", port)) == 0 else port


def _address(process: subprocess.Popen[bytes], home: Path, log: Path) -> str:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        if (home / "serve.json").is_file():
            return str(json.loads((home / "serve.json").read_text())["url"])
        time.sleep(0.1)
    raise SystemExit(f"the service did not come up:\n{log.read_text()[-3000:]}")
