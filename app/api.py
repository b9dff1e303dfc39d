"""`python -m app.api --fd N`: the API process under the supervisor, on a socket that the supervisor has bound.

The socket is the supervisor's, so a port that is taken is known before anything starts, port 0 has no race, and while a
dead API is replaced, callers wait in the socket's queue and are not refused.
"""

from __future__ import annotations

import argparse
import socket
import sys

import uvicorn

from registry.lifeline import tie
from registry.logs import configure
from registry.settings import Settings

# Streams of events are open without end: at shutdown they are cut after this.
_GRACEFUL_S = 2
_GRACE_S = 4.0


def main() -> int:
    """Serve until SIGTERM, or until stdin ends."""
    parser = argparse.ArgumentParser(prog="python -m app.api")
    parser.add_argument("--fd", type=int, required=True, help="the listening socket")
    listening = socket.socket(fileno=parser.parse_args().fd)
    tie(grace_s=_GRACE_S)
    settings = Settings()
    configure(settings)
    config = uvicorn.Config(
        "app.main:create_app",
        factory=True,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=_GRACEFUL_S,
    )
    uvicorn.Server(config).run(sockets=[listening])
    return 0


if __name__ == "__main__":
    sys.exit(main())
