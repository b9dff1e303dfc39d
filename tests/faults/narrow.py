"""`python -m tests.faults.narrow FILE MODULE`: run a module of ours whose store has no room while FILE is there.

For machines where no disk can be mounted: every write of the store fails as on a full one.
"""

from __future__ import annotations

import errno
import os
import runpy
import sys
from pathlib import Path

from registry import store


def main() -> None:
    full, module = Path(sys.argv[1]), sys.argv[2]
    require_free = store.require_free

    def narrow(folder: Path, size_bytes: int) -> None:
        if full.exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
        require_free(folder, size_bytes)

    store.require_free = narrow
    sys.argv = [module, *sys.argv[3:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
