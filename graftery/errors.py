"""The error tree. Every error carries a stable code; `graftery.spec.problems` maps codes to HTTP status.

GrafteryError
├── ModuleFileError      a module file is refused; the code says at which stage and why
│   ├── HeaderRefused        container: length, header, offsets
│   ├── GraphRefused         op graph: identifiers, operators, arity
│   ├── ShapesRefused        fake-tensor run: shapes, dtypes, work
│   └── WeightsRefused       values and the probe
├── TraceRefused         a net cannot be written as a module file (at the owner's)
├── CutRefused           the cut is no layer, or does not separate the net
├── Misfit               modules that cannot be joined
├── RecipeRefused        a recipe or its data cannot be used
├── TrainingFailed       a transplant ended by itself with an error
├── SamplesRefused       a sample set cannot be used
├── NotFound             an unknown name, version, alias, job
├── Conflict             the state of the registry forbids it
├── StoreError           bytes could not be kept or do not verify
├── InferenceRefused     a request under /v2 cannot be answered
├── AccessRefused        the service wants a key, or this one does not allow it
├── Unavailable          not now: full, not ready, starting
└── ServiceError         what a client met: the service's own problem document, or no answer
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class GrafteryError(Exception):
    """Base of all errors.

    Args:
        message: one sentence that names the place and the things that disagree.
        code: a key of `graftery.spec.problems.PROBLEMS`; the class's own code if not given.
        hint: what the reader can do about it.
        details: JSON values for the problem document (`near=[...]`, `dependents=[...]`).
    """

    code: str = "internal"

    def __init__(self, message: str, *, code: str | None = None, hint: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        self.hint = hint
        self.details = details

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.code, self.hint, self.details)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, for a sentence that quotes it; its type where it has no message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def lacks_memory(error: BaseException) -> bool:
    """Whether the device is what an error is about: torch's on a GPU (known by its name: this file runs without torch) or on a CPU."""
    of_torch = type(error).__name__ == "OutOfMemoryError" or "allocate memory" in str(error)
    return isinstance(error, MemoryError) or of_torch


@contextmanager
def refusing(refusal: Callable[[str], GrafteryError], *kinds: type[Exception]) -> Iterator[None]:
    """Turn what torch raises about a net and what goes into it into a refusal; a lack of memory stays what it is.

    Args:
        refusal: makes it of the first line of what was raised.
        kinds: of errors; RuntimeError, if none is named.
    """
    wanted = kinds if kinds else (RuntimeError,)
    try:
        yield
    except wanted as error:
        if lacks_memory(error):
            raise
        raise refusal(first_line(error)) from error


def _rebuild(
    cls: type[GrafteryError], message: str, code: str, hint: str | None, details: dict[str, Any]
) -> GrafteryError:
    return cls(message, code=code, hint=hint, **details)


class ModuleFileError(GrafteryError):
    code = "module_file_invalid"


class HeaderRefused(ModuleFileError):
    code = "header_invalid"


class GraphRefused(ModuleFileError):
    code = "graph_invalid"


class ShapesRefused(ModuleFileError):
    code = "shapes_invalid"


class WeightsRefused(ModuleFileError):
    code = "weights_invalid"


class TraceRefused(GrafteryError):
    code = "trace_unsupported"


class CutRefused(GrafteryError):
    code = "cut_not_found"


class Misfit(GrafteryError):
    code = "shape_mismatch"


class RecipeRefused(GrafteryError):
    code = "recipe_invalid"


class TrainingFailed(GrafteryError):
    code = "diverged"


class SamplesRefused(GrafteryError):
    code = "samples_invalid"


class NotFound(GrafteryError):
    code = "not_found"


class Conflict(GrafteryError):
    code = "conflict"


class StoreError(GrafteryError):
    code = "store_corrupt"


class InferenceRefused(GrafteryError):
    code = "inference_invalid"


class AccessRefused(GrafteryError):
    code = "unauthenticated"


class Unavailable(GrafteryError):
    code = "unavailable"


class ServiceError(GrafteryError):
    code = "service_error"
