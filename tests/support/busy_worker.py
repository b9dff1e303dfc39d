"""`python -m tests.support.busy_worker`: a real worker whose children are `tests.support.busy_child`."""

from __future__ import annotations

import sys

BUSY_CHILD = (sys.executable, "-m", "tests.support.busy_child")


def main() -> int:
    from worker import tasks
    from worker.__main__ import main as work

    tasks.child_command = BUSY_CHILD
    return work()


if __name__ == "__main__":
    sys.exit(main())
