"""Which tests go to one worker of a run, and which go first.

A file a worker, so that what its tests share is made once. Files that share what is dear stay together: a real service
takes a dozen seconds of a core to start, and trained nets are kept by the process. What takes longest goes first: what is
short then evens out the end of the run.
"""

from __future__ import annotations

from xdist.scheduler import LoadFileScheduling

_TOGETHER = (
    ("tests/trips/test_clones.py", "tests/trips/test_trips.py"),
    (
        "tests/graftery/client/test_against_service.py",
        "tests/examples/test_examples.py",
        "tests/contract/test_readme.py",
    ),
    ("tests/graftery/cloning/",),
    ("tests/graftery/compat/",),
)
_FIRST = (
    "tests/trips/test_cluster.py",
    "tests/trips/test_clones.py",
    "tests/trips/test_kills.py",
    "tests/graftery/cloning/",
    "tests/trips/",
    "tests/faults/",
    "tests/graftery/compat/",
    "tests/graftery/client/test_against_service.py",
    "tests/worker/test_tasks.py",
    "tests/app/test_serve.py",
    "tests/app/test_backup.py",
)


def room(nodeid: str) -> str:
    """The file of a test, or what its file goes together with."""
    file = nodeid.partition("::")[0]
    return next((files[0] for files in _TOGETHER if file.startswith(files)), file)


def place(nodeid: str) -> int:
    """Where in the run a test goes: the smallest first."""
    return next((number for number, start in enumerate(_FIRST) if room(nodeid).startswith(start)), len(_FIRST))


class Rooms(LoadFileScheduling):
    """`--dist loadfile`, with some files taken together."""

    def _split_scope(self, nodeid: str) -> str:
        return room(nodeid)
