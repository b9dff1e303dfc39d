"""`python -m app.api`: the API process, on the address of the settings.

`--fd N`: under a supervisor, on a socket that it has bound. A port that is taken is then known before anything starts,
port 0 has no race, and while a dead API is replaced, callers wait in the socket's queue and are not refused.

Asked to end, the process first says that it is not ready and goes on answering, so that a proxy turns to others
(`drain_s`); then it takes no more connections, and what runs may end (`finish_s`).
"""

from __future__ import annotations

import argparse
import socket
import sys
import threading
from types import FrameType

import uvicorn
from sqlalchemy.exc import SQLAlchemyError

from app.edge.heads import BoundedHead
from app.main import create_app
from graftery.errors import GrafteryError, Unavailable
from registry.db import Database, check_head
from registry.lifeline import tie
from registry.logs import configure
from registry.settings import Settings

# Under a supervisor somebody waits at a terminal, and streams of events have no end.
_TIED_FINISH_S = 2.0
_GRACE_S = 4.0
_BACKLOG = 2048


class Server(uvicorn.Server):
    """uvicorn's server, which drains before it ends.

    Args:
        draining: set as soon as the end was asked for.
    """

    def __init__(self, config: uvicorn.Config, draining: threading.Event, drain_s: float) -> None:
        super().__init__(config)
        self._draining = draining
        self._drain_s = drain_s

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal begins the drain; a second one ends it."""
        if self._draining.is_set() or not self._drain_s:
            self._draining.set()
            super().handle_exit(sig, frame)
            return
        self._draining.set()
        timer = threading.Timer(self._drain_s, super().handle_exit, (sig, frame))
        timer.daemon = True
        timer.start()


def main() -> int:
    """Serve until SIGTERM, or until stdin ends; 1 with one line on stderr where the schema is not known."""
    parser = argparse.ArgumentParser(prog="python -m app.api", description="Serve the API and inference.")
    parser.add_argument("--fd", type=int, help="the listening socket of a supervisor")
    fd = parser.parse_args().fd
    listening = None if fd is None else [socket.socket(fileno=fd)]
    settings = Settings()
    if fd is not None:
        tie(grace_s=_GRACE_S)
        settings = settings.model_copy(update={"finish_s": _TIED_FINISH_S})
    configure(settings)
    app = create_app(settings)
    try:
        _refuse_unknown(app.state.service.database)
    except GrafteryError as error:
        sys.stderr.write(f"python -m app.api: {error}\n")
        return 1
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        backlog=_BACKLOG,
        http=BoundedHead,
        log_config=None,
        access_log=False,
        # Whole seconds, by its type; it only waits for them.
        timeout_graceful_shutdown=settings.finish_s,  # type: ignore[arg-type]
    )
    server = Server(config, app.state.service.draining, settings.drain_s)
    server.run(sockets=listening)
    return 0 if server.started else 3


def _refuse_unknown(database: Database) -> None:
    """A database that does not answer yet is waited for: the process is not ready until it does."""
    try:
        check_head(database)
    except Unavailable as error:
        if error.code == "schema_unknown":
            raise
    except SQLAlchemyError:
        return


if __name__ == "__main__":
    sys.exit(main())
