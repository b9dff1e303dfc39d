"""`python -m worker`: one worker, as `celery -A worker.tasks worker -P threads -c 1` starts it, for these settings.

`--tied`: end when stdin ends, for a supervisor that holds the other end of it.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import warnings

from celery.platforms import SecurityWarning

from registry.lifeline import tie

# Time for a worker whose supervisor was killed to put its job back.
_GRACE_S = 5.0


def main() -> int:
    """Run a worker until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m worker", description="Run transplant jobs.")
    parser.add_argument("--tied", action="store_true", help="end when stdin ends")
    if parser.parse_args().tied:
        tie(grace_s=_GRACE_S)
    # It is about messages that are unpickled; ours are JSON.
    warnings.simplefilter("ignore", SecurityWarning)
    from worker.tasks import app

    worker = app.Worker(
        hostname=f"worker-{os.getpid()}@{socket.gethostname()}",
        pool="threads",
        concurrency=1,
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    worker.start()
    return int(worker.exitcode or 0)


if __name__ == "__main__":
    sys.exit(main())
