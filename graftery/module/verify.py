"""`python -m graftery.module.verify FILE` checks a file; `--serve` answers requests as JSON lines."""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Sequence

_LOOK_S = 0.5


def main(argv: Sequence[str] | None = None) -> int:
    """Print the facts of a good file and give 0, or the problem of a bad one and give 1."""
    parser = argparse.ArgumentParser(prog="python -m graftery.module.verify", description="Check a module file.")
    parser.add_argument("file", nargs="?", help="the module file")
    parser.add_argument("--serve", action="store_true", help="answer requests, one JSON document a line, on stdin")
    options = parser.parse_args(argv)
    if options.serve == bool(options.file):
        parser.error("give a file, or --serve")
    if options.serve:
        end_with_parent()
    # After the arguments are read: these load torch.
    from graftery.errors import GrafteryError
    from graftery.module.protocol import problem, serve
    from graftery.module.verification import verify
    from graftery.spec.manifest import json_of

    if options.serve:
        serve()
        return 0
    try:
        found = json_of(verify(options.file))
    except GrafteryError as error:
        sys.stdout.write(json.dumps(problem(error), indent=2) + "\n")
        return 1
    except OSError as error:
        parser.error(f"{options.file}: {error.strerror}")
    sys.stdout.write(json.dumps(found, indent=2) + "\n")
    return 0


def end_with_parent() -> None:
    """End when the process that started this one is gone: the end of stdin is not seen while torch loads or a file is checked."""
    threading.Thread(target=_end_with, args=(os.getppid(),), name="lifeline", daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
