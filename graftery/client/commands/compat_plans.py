"""What the options of `graftery compat` say, as what the library takes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from graftery.client.commands.compat_files import place_of, read_module, read_samples
from graftery.client.commands.options import json_of_option
from graftery.client.commands.own_net import builder
from graftery.client.verbs import request_of
from graftery.errors import RecipeRefused
from graftery.spec.manifest import GroupSpec
from graftery.spec.names import check_name
from graftery.spec.recipes import CompatRecipe

if TYPE_CHECKING:
    from torch import Tensor

    from graftery.compat import Matrix, Task
    from graftery.data import SampleSet
    from graftery.module import ModuleFile


@dataclass(frozen=True)
class Components:
    """What a matrix is measured on, by the name of the network."""

    extractors: dict[str, ModuleFile]
    heads: dict[str, ModuleFile]
    tests: dict[str, SampleSet]

    def matrix(self, images: Mapping[str, Tensor] | None, *, force: bool) -> Matrix:
        """Every head on every extractor; heads' batch norms stand on these images, where there are any."""
        from graftery.compat import recombine

        return recombine(self.extractors, self.heads, self.tests, statistics=images, force=force)


def common_classes(said: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """NAME=WORD,WORD or NAME, in the order in which they are said: images to check members on are counted so."""
    named = (text.partition("=") for text in said)
    return {name: tuple(words.split(",")) if words else (name,) for name, _, words in named}


def group_spec(methods: str, common: Sequence[str], image: Tensor) -> GroupSpec:
    """What `compat init` is told, with the first thing that is not allowed.

    Raises:
        GrafteryError: `recipe_invalid`.
    """
    said = {
        "methods": [name.strip().upper() for name in methods.split(",")],
        "common": common_classes(common),
        "image": {"dtype": "float32", "shape": ("N", *image.shape[1:])},
    }
    return request_of(GroupSpec, said, code="recipe_invalid")


def recipe_of(said: Sequence[str]) -> CompatRecipe:
    """FIELD=VALUE over whole recipes, which are JSON or files of it; `augment.flip=true` is a field of a field.

    Raises:
        GrafteryError: `recipe_invalid`, with the field and its range.
    """
    plan: dict[str, Any] = {}
    fields = [text for text in said if _is_field(text)]
    for text in said:
        if text not in fields:
            plan |= _whole(text)
    for text in fields:
        path, _, value = text.partition("=")
        _put(plan, path.strip().split("."), _value(value))
    return request_of(CompatRecipe, plan, code="recipe_invalid")


def tasks_of(
    samples: Mapping[str, str],
    *,
    classes: Mapping[str, str],
    tests: Mapping[str, str],
    nets: str | dict[str, str] | None,
    cuts: str | dict[str, str] | None,
) -> list[Task]:
    """The tasks, their images read, in the order in which they are named."""
    for option, named in (("--classes", classes), ("--test", tests), ("--net", nets), ("--cut", cuts)):
        if isinstance(named, Mapping) and (unknown := sorted(set(named) - set(samples))):
            raise typer.BadParameter(f"{option} names {unknown[0]}, which --task does not")
    from graftery.compat import Design, Task

    return [
        Task(
            check_name(name, what="the name of a task"),
            tuple(classes[name].split(",")) if name in classes else (),
            read_samples(Path(file)),
            Design(builder(_for(name, nets, "--net")), _for(name, cuts, "--cut")),
            read_samples(Path(tests[name])) if name in tests else None,
        )
        for name, file in samples.items()
    ]


def components(members: Mapping[str, str], folders: Sequence[Path], tests: Mapping[str, str]) -> list[Components]:
    """Of --member NAME=CATEGORY,TASK,TEST one matrix; of --trained one for each folder, of the networks that --test names."""
    if bool(members) == bool(folders) or bool(folders) != bool(tests):
        raise typer.BadParameter("a matrix is of --member for each network, or of --trained with --test for each")
    if len(set(folders)) < len(folders):
        raise typer.BadParameter("--trained names a folder twice: each is a training with another seed")
    files = {name: text.split(",") for name, text in members.items()}
    if wrong := [name for name, parts in files.items() if len(parts) != 3 or not all(parts)]:
        raise typer.BadParameter(f"--member is written NAME=CATEGORY,TASK,TEST, not {wrong[0]}={members[wrong[0]]}")
    if len(members or tests) < 2:
        raise typer.BadParameter(
            f"a matrix is of two networks at least: give --{'test' if tests else 'member'} for each"
        )
    if members:
        return [_read({name: tuple(map(Path, parts)) for name, parts in files.items()})]
    names = [check_name(name, what="the name of a task") for name in tests]
    return [
        _read(
            {
                name: (*(place_of(folder, name, part) for part in ("category", "task")), Path(tests[name]))
                for name in names
            }
        )
        for folder in folders
    ]


def _read(files: Mapping[str, Sequence[Path]]) -> Components:
    return Components(
        {name: read_module(category) for name, (category, _, _) in files.items()},
        {name: read_module(task) for name, (_, task, _) in files.items()},
        {name: read_samples(test) for name, (_, _, test) in files.items()},
    )


def images_of(said: str | dict[str, str] | None, names: Sequence[str]) -> dict[str, Tensor] | None:
    """Images by the extractor whose features heads shall stand on; None where none are given."""
    if said is None:
        return None
    files = dict.fromkeys(names, said) if isinstance(said, str) else said
    if set(files) != set(names):
        raise typer.BadParameter(f"--reestimate is of {', '.join(files)}, --member of {', '.join(names)}")
    return {name: read_samples(Path(file)).x for name, file in files.items()}


def _for(name: str, said: str | dict[str, str] | None, option: str) -> str:
    found = said.get(name) if isinstance(said, dict) else said
    if found is None:
        raise typer.BadParameter(f"{option} says nothing for {name}")
    return found


def _is_field(text: str) -> bool:
    return "=" in text and not text.lstrip().startswith(("{", "@"))


def _whole(text: str) -> dict[str, Any]:
    found = json_of_option(text if text.lstrip().startswith(("{", "@")) else f"@{text}", "--recipe")
    if not isinstance(found, dict):
        raise RecipeRefused("--recipe is no JSON object", hint="write FIELD=VALUE, or {...}")
    return found


def _put(plan: dict[str, Any], path: Sequence[str], value: Any) -> None:
    *above, last = path
    for name in above:
        plan[name] = dict(below) if isinstance(below := plan.get(name), dict) else {}
        plan = plan[name]
    plan[last] = value


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
