"""A child that works on strangers' files: requests as JSON lines on stdin, answers as JSON lines on stdout.

A warm child answers in milliseconds what a cold one needs seconds of imports for. One request runs at a time, under the
bounds of `graftery.module.bounds`; it ends when stdin ends. The actions here are the verifier's; others may be served
in the same way (`graftery.compat.verifying`, `graftery.transplant.prechecking`).
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

import torch

from graftery.errors import GrafteryError, ModuleFileError, StoreError
from graftery.module.bounds import bounded
from graftery.module.cutting import cut
from graftery.module.file import ModuleFile
from graftery.module.graph import Graph, Node
from graftery.module.probes import with_probe
from graftery.module.samples import examine_samples
from graftery.module.verification import examine
from graftery.spec.limits import Limits
from graftery.spec.manifest import Manifest, OutputSpec, TensorSpec, json_of

Action = Callable[[Mapping[str, Any], Limits], dict[str, Any]]


def serve(actions: Mapping[str, Action] | None = None) -> None:
    """Answer requests until stdin ends, by default the verifier's. The first line out is `{"ready": true}`."""
    answers = _own_stdout()
    torch.set_num_threads(1)  # The limit on processor time counts every thread.
    warm_up()
    _say(answers, {"ready": True})
    for line in sys.stdin:
        _say(answers, answer(line, actions))


def answer(line: str, actions: Mapping[str, Action] | None = None) -> dict[str, Any]:
    """The answer to one request: `{"id", "ok": {...}}` or `{"id", "problem": {...}}`.

    A request names its `action`, the file at `path`, and any others as `files`, name to path: all count for its bounds.
    """
    ref = None
    try:
        request = json.loads(line)
        ref = request["id"]
        limits = Limits.model_validate(request.get("limits") or {})
        action = (ACTIONS if actions is None else actions)[request["action"]]
        sizes = [Path(path).stat().st_size for path in (request["path"], *request.get("files", {}).values())]
    except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
        return {"id": ref, "problem": problem(GrafteryError(f"the request cannot be read: {error!r}"[:300]))}
    try:
        # A split checks three files or more: the whole and its parts, which take twice the time of the whole.
        files = 3 if action is _split else len(sizes)
        with bounded(sum(min(size, limits.file_bytes) for size in sizes), limits, files=files):
            return {"id": ref, "ok": action(request, limits)}
    except GrafteryError as error:
        return {"id": ref, "problem": problem(error)}
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        refusal = StoreError("The disk is full", code="store_full") if full else GrafteryError(f"{error!r}"[:300])
        return {"id": ref, "problem": problem(refusal)}
    except Exception as error:
        # A gap in the checks: the file is refused, and the child lives on.
        what = f"the check failed with {type(error).__name__}: {str(error)[:300]}"
        return {"id": ref, "problem": problem(ModuleFileError(what))}


def problem(error: GrafteryError) -> dict[str, Any]:
    """An error as JSON: its code, message and hint, and what else it knows."""
    return {**error.details, "code": error.code, "message": error.message, "hint": error.hint}


def warm_up() -> None:
    """Check a smallest file, so that the imports and caches of a first check are behind us."""
    spec = TensorSpec(dtype="float32", shape=("N", 2))
    output = OutputSpec(dtype="float32", shape=("N", 3))
    manifest = Manifest(kind="category", input=spec, outputs={"features": output})
    node = Node("aten.linear.default", "v0", ({"v": "x0"}, {"w": "weight"}))
    file = ModuleFile(manifest, Graph(spec, (node,), {"features": "v0"}), {"weight": torch.ones(3, 2)})
    examine(with_probe(file, torch.ones(2, 2)), Limits())


def _own_stdout() -> TextIO:
    """Keep stdout for answers alone: what libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def _say(answers: TextIO, value: Mapping[str, Any]) -> None:
    answers.write(json.dumps(value) + "\n")
    answers.flush()


def _checked(file: ModuleFile, limits: Limits) -> dict[str, Any]:
    return {"manifest": json_of(file.manifest), "facts": json_of(examine(file, limits))}


def _verify(request: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    return _checked(ModuleFile.load(request["path"], limits), limits)


def _samples(request: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    return {"facts": json_of(examine_samples(request["path"], limits))}


def _split(request: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    """Check a teacher, cut it, and write the parts into `out_dir`, each checked like a file from outside."""
    teacher = ModuleFile.load(request["path"], limits)
    checked = _checked(teacher, limits)
    category, tasks = cut(teacher, request["cut"])
    out_dir = Path(request["out_dir"])
    return {
        "teacher": checked,
        "category": _written(category, out_dir / "category.safetensors", limits),
        "tasks": {
            name: _written(task, out_dir / f"task-{index}.safetensors", limits)
            for index, (name, task) in enumerate(tasks.items())
        },
    }


def _written(part: ModuleFile, path: Path, limits: Limits) -> dict[str, Any]:
    checked = _checked(part, limits)
    part.save(path)
    return {"path": str(path), **checked}


ACTIONS: Mapping[str, Action] = {
    "verify": _verify,
    "split": _split,
    "samples": _samples,
}
