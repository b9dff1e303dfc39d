"""Bounds on one request of the verifier's child: memory and processor time, by the kernel."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from graftery.errors import ModuleFileError, lacks_memory
from graftery.spec.limits import Limits


class OutOfTime(BaseException):
    """Processor time is used up. No `Exception`, so that no check on the way takes it for a refusal."""


@contextmanager
def bounded(file_bytes: int, limits: Limits, *, files: int = 1) -> Iterator[None]:
    """Run a block under RLIMIT_AS and RLIMIT_CPU, counted from what this process uses now.

    Both limits are soft: a warm child has to lift them again for the next file. An operator in C++ that does not come
    back meets the wall limit, which the parent holds.

    Args:
        files: how many files of this size are checked; each has its own processor time.

    Raises:
        ModuleFileError: `verify_limit`, for time or memory.
    """
    previous = signal.signal(signal.SIGXCPU, _out_of_time)
    memory = _address_space() + limits.memory_base_bytes + limits.memory_per_file_byte * file_bytes
    used = resource.getrusage(resource.RUSAGE_SELF)
    _soft(resource.RLIMIT_AS, memory)
    _soft(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + 1 + files * limits.cpu_s)
    try:
        yield
    except OutOfTime:
        raise _limit(f"the check takes over {files * limits.cpu_s} s of processor time") from None
    except (MemoryError, RuntimeError) as error:
        if not lacks_memory(error):
            raise
        raise _limit(f"the check takes over {memory} bytes of memory") from None
    finally:
        _soft(resource.RLIMIT_AS, resource.RLIM_INFINITY)
        _soft(resource.RLIMIT_CPU, resource.RLIM_INFINITY)
        signal.signal(signal.SIGXCPU, previous)


def _out_of_time(number: int, frame: FrameType | None) -> None:
    raise OutOfTime


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def _soft(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        value = hard if value == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, hard))


def _limit(what: str) -> ModuleFileError:
    return ModuleFileError(what, code="verify_limit", hint="smaller weights or fewer steps are checked faster")
