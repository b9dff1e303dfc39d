"""The child that looks at modules before or without a job: requests and answers as JSON lines, like the verifier's child."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from graftery.module import ModuleFile
from graftery.module.protocol import serve
from graftery.spec.limits import Limits
from graftery.spec.recipes import TransplantRecipe
from graftery.transplant import recombining
from graftery.transplant.precheck import Neighbour, precheck


def answer(request: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    """One pre-check.

    Args:
        request: `path` is f's file; `files` has gS as `task`, perhaps gT as `teacher_task`, and for neighbour I of `neighbours`, which are their names,
            `I.category` and perhaps `I.adapter`; `recipe`.
    """

    category = ModuleFile.load(request["path"], limits)
    files = {role: ModuleFile.load(path, limits) for role, path in request["files"].items()}
    near = [
        Neighbour(name, files[f"{index}.category"], files.get(f"{index}.adapter"))
        for index, name in enumerate(request["neighbours"])
    ]
    recipe = TransplantRecipe.model_validate(request["recipe"])
    found = precheck(category, files["task"], teacher_task=files.get("teacher_task"), neighbours=near, recipe=recipe)
    return asdict(found)


def main() -> None:
    """Answer until stdin ends."""
    serve({"precheck": answer, "recombination": recombining.answer})
