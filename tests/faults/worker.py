"""`python -m tests.faults.worker`: a real worker whose children are `tests.faults.child`, which sign what they report."""

from __future__ import annotations

import sys

CHILD = (sys.executable, "-m", "tests.faults.child")


def main() -> int:
    from worker import tasks
    from worker.__main__ import main as work

    tasks.child_command = CHILD
    return work()


if __name__ == "__main__":
    sys.exit(main())
