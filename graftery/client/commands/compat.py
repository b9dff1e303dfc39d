"""compat init, train, check, matrix: compatible components, on files of this machine and without a service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graftery.client.commands import compat_answers as answers
from graftery.client.commands import compat_spreads as spreads
from graftery.client.commands.compat_files import free, learned, read_module, read_samples, save_members
from graftery.client.commands.compat_plans import common_classes, components, group_spec, images_of, recipe_of, tasks_of
from graftery.client.commands.options import Json, json_of_option, pairs, per_task, text_of
from graftery.client.commands.own_net import builder, example_of, preprocessing_of

_BUILDER = "package.module:function that takes a number of logits and gives a net. Runs YOUR code, here."

Out = Annotated[Path, typer.Argument(help="The file to write.", metavar="GROUP")]
Net = Annotated[str, typer.Option(help=_BUILDER, metavar="PLACE")]
Nets = Annotated[
    list[str], typer.Option(help=f"{_BUILDER} Or NAME=PLACE for each task, several times.", metavar="PLACE")
]
Cut = Annotated[str, typer.Option(help="The layer whose output the features are.", metavar="LAYER")]
Cuts = Annotated[
    list[str], typer.Option(help="The layer to cut at, by default the group's. Or NAME=LAYER, several times.")
]
Methods = Annotated[str, typer.Option(help="Any of RP, DCC and IIW, with commas between.")]
Common = Annotated[
    list[str],
    typer.Option(help="A common class: NAME=WORD,WORD with the words that tasks have for it, or NAME; several times."),
]
Example = Annotated[str, typer.Option(help="One image's shape, such as 3x32x32, or a .npy file.")]
Preprocessing = Annotated[str | None, typer.Option(help="JSON (or @FILE) with mean, std, value_range.")]
Check = Annotated[
    Path | None,
    typer.Option(
        help="Images that go along, to check members on: whoever has the group sees them. y counts common classes, in the order in which they are named.",
        metavar="SAMPLES",
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Of the weights that all begin with.")]
Description = Annotated[str | None, typer.Option(help="Markdown, or @FILE.")]
OfGroup = Annotated[Path, typer.Option("--group", help="The group's file.", metavar="GROUP")]
Tasks = Annotated[
    list[str],
    typer.Option(
        help="NAME=SAMPLES, .npz or .safetensors with x and y; x alone where the group has RP; several times."
    ),
]
Classes = Annotated[list[str], typer.Option(help="NAME=a,b,c: what the ids in y stand for, from 0 on; for each task.")]
Tests = Annotated[list[str], typer.Option(help="NAME=SAMPLES to measure on, none of which a task trains on.")]
Folder = Annotated[Path, typer.Option("--out", help="The folder to write into.", metavar="FOLDER")]
Recipe = Annotated[
    list[str],
    typer.Option(help="FIELD=VALUE, several times; or JSON, @FILE or FILE.json, over which the fields go."),
]
Incremental = Annotated[
    bool | None,
    typer.Option(
        "--incremental/--joint",
        help="What is meant: against shared heads that are there, or with them. By default what the group allows.",
    ),
]
Device = Annotated[str, typer.Option(help="Where to train: cpu or cuda.")]
Members = Annotated[
    list[str],
    typer.Option(
        "--member", help="NAME=CATEGORY,TASK,TEST: extractor, head, labelled images of the head's task; for each."
    ),
]
Trainings = Annotated[
    list[Path],
    typer.Option(
        help="What `compat train` left, instead of --member, with --test for each network; several times: one for each seed.",
        metavar="FOLDER",
    ),
]
Reestimate = Annotated[
    list[str],
    typer.Option(
        help="Also with heads' batch norms on these images, labels unused. Or NAME=SAMPLES, the images of each extractor.",
        metavar="SAMPLES",
    ),
]
Forced = Annotated[bool, typer.Option("--force", help="Also components that are not of one group.")]


def init(
    group: Out,
    *,
    net: Net,
    cut: Cut,
    methods: Methods,
    example: Example,
    common: Common = [],  # noqa: B006
    preprocessing: Preprocessing = None,
    check: Check = None,
    seed: Seed = 0,
    description: Description = None,
    as_json: Json = False,
) -> None:
    """Found a compatibility group: what networks agree on before they are trained, so that their components recombine.

    Examples:
      graftery compat init group.safetensors --net mypackage.nets:build --cut layer2 --methods IIW,RP,DCC \\
        --common car=car,automobile --common cat --example 3x32x32
      graftery compat init rotation.safetensors --net mypackage.nets:build --cut layer2 --methods RP --example 3x32x32
    """
    free([group])
    design, image = builder(net), example_of(example)
    spec = group_spec(methods, common, image)
    from graftery.compat import Design, found

    file = found(
        Design(design, cut),
        spec.methods,
        image,
        common=common_classes(common),
        preprocessing=preprocessing_of(json_of_option(preprocessing, "--preprocessing")),
        check=None if check is None else read_samples(check),
        seed=seed,
        description=text_of(description) or "",
    )
    file.save(group)
    answers.founded(group, file, as_json=as_json)


def train(
    *,
    group: OfGroup,
    net: Nets,
    task: Tasks,
    out: Folder,
    classes: Classes = [],  # noqa: B006
    test: Tests = [],  # noqa: B006
    cut: Cuts = [],  # noqa: B006
    recipe: Recipe = [],  # noqa: B006
    incremental: Incremental = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Train a network for each task against a group, and write its feature extractor and its head.

    The first, joint, training learns the group's shared heads too, and writes group.safetensors; later ones join against it. Ctrl-C
    keeps a checkpoint: the same command goes on from it, to the same bytes.

    Examples:
      graftery compat train --group group.safetensors --net mypackage.nets:build --out trained \\
        --task animals=animals.npz --classes animals=cat,dog,car --test animals=animals-test.npz \\
        --task street=street.npz --classes street=automobile,cat,sign --test street=street-test.npz --recipe epochs=20
      graftery compat train --group group.safetensors --net mypackage.nets:build --out trained-seed-1 \\
        --task animals=animals.npz --classes animals=cat,dog,car --test animals=animals-test.npz \\
        --task street=street.npz --classes street=automobile,cat,sign --test street=street-test.npz \\
        --recipe epochs=20 --recipe seed=1
      graftery compat train --group trained/group.safetensors --incremental --net mypackage.nets:build --out later \\
        --task night=night.npz --recipe '{"epochs": 5}'
    """
    plan, against = recipe_of(recipe), read_module(group)
    tasks = tasks_of(
        pairs(task, "--task"),
        classes=pairs(classes, "--classes"),
        tests=pairs(test, "--test"),
        nets=per_task(net, "--net"),
        cuts=per_task(cut, "--cut") or against.manifest.cut,
    )
    done = learned(tasks, against, plan, out, incremental=incremental, device=device)
    written, file = save_members(out, done, against)
    answers.trained(tasks, done, written, file, as_json=as_json)


def check(
    module: Annotated[Path, typer.Argument(help="A category or task module.", metavar="MODULE")],
    group: Annotated[Path, typer.Argument(help="The group's file.", metavar="GROUP")],
    *,
    as_json: Json = False,
) -> None:
    """Check that a module was trained against a group: by what it says, and by what the group's heads see in its features.

    Examples:
      graftery compat check trained/animals-category.safetensors trained/group.safetensors
    """
    from graftery.compat import check_member

    against = read_module(group)
    answers.checked(module, against, check_member(read_module(module), against), as_json=as_json)


def matrix(
    *,
    member: Members = [],  # noqa: B006
    trained: Trainings = [],  # noqa: B006
    test: Tests = [],  # noqa: B006
    reestimate: Reestimate = [],  # noqa: B006
    force: Forced = False,
    as_json: Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="Write a row for each pair, with commas between.")] = False,
) -> None:
    """Measure every head on every feature extractor: accuracy, and 100 for as good as the head's own network, 0 for chance.

    Of several trainings it shows the mean and the standard deviation over them.

    Examples:
      graftery compat matrix \\
        --member animals=trained/animals-category.safetensors,trained/animals-task.safetensors,animals-test.npz \\
        --member street=trained/street-category.safetensors,trained/street-task.safetensors,street-test.npz \\
        --reestimate animals=animals.npz --reestimate street=street.npz
      graftery compat matrix --trained trained --trained trained-seed-1 \\
        --test animals=animals-test.npz --test street=street-test.npz
    """
    if csv and as_json:
        raise typer.BadParameter("--csv and --json are two answers: ask for one")
    several = components(pairs(member, "--member"), trained, pairs(test, "--test"))
    images = images_of(per_task(reestimate, "--reestimate"), list(several[0].extractors))
    plain = [parts.matrix(None, force=force) for parts in several]
    again = [parts.matrix(images, force=force) for parts in several] if images else []
    if len(several) > 1:
        spreads.recombined(plain, again, as_json=as_json, as_csv=csv)
    else:
        answers.recombined(plain[0], again[0] if again else None, as_json=as_json, as_csv=csv)
