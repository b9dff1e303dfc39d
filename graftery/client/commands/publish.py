"""push, pull, and layers, which asks a file and no service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from graftery.client.commands.local_file import layers_of
from graftery.client.commands.options import (
    Json,
    Name,
    Ref,
    Url,
    connect,
    json_of_option,
    pairs,
    say,
    say_json,
    text_of,
)
from graftery.client.commands.own_net import build, example_of, trace_options
from graftery.client.commands.plain_name import tell_plain_name
from graftery.client.packing import existing, read_images
from graftery.client.progress import transfer_bar
from graftery.client.render import size
from graftery.spec.wire import TeacherOut, VersionOut

ModulePath = Annotated[Path, typer.Argument(help="A module file.", metavar="FILE")]


File = Annotated[
    Path | None,
    typer.Argument(help="A module file (.safetensors); with --samples also .npz. Or none, and --net.", metavar="FILE"),
]
Teacher = Annotated[bool, typer.Option("--teacher", help="A whole net; needs --cut.")]
Cut = Annotated[str | None, typer.Option(help="The layer at which the service cuts a teacher.")]
Samples = Annotated[bool, typer.Option("--samples", help="A sample set: x and, if labelled, y.")]
Net = Annotated[
    str | None,
    typer.Option(help="package.module:function that gives your trained net. Runs YOUR code, here.", metavar="PLACE"),
]
Weights = Annotated[Path | None, typer.Option(help="With --net: a safetensors state dict to load into it.")]
Example = Annotated[str | None, typer.Option(help="With --net: one sample's shape, or a .npy file with two or more.")]
Kind = Annotated[str, typer.Option(help="With --net: category, task or adapter.")]
Outputs = Annotated[
    list[str], typer.Option(help="With --net: what an output means: classification, segmentation, regression.")
]
Classes = Annotated[list[str], typer.Option(help="With --net: an output's class names.")]
Preprocessing = Annotated[str | None, typer.Option(help="With --net: JSON (or @FILE) with mean, std, value_range.")]
Licence = Annotated[str | None, typer.Option(help="With --net: the licence of the weights.")]
Sketch = Annotated[
    Path | None,
    typer.Option(help="Images of yours (.npy, .npz): statistics of the features on them go along, never an image."),
]
SketchCrops = Annotated[
    int,
    typer.Option(
        min=0,
        help="With --sketch: crops of feature maps to send too, some hundred for segmentation. They tell of the images.",
        metavar="N",
    ),
]
Description = Annotated[str | None, typer.Option(help="Markdown, or @FILE.")]
Tags = Annotated[list[str], typer.Option(help="May be given several times.")]


def push(
    name: Name,
    file: File = None,
    *,
    teacher: Teacher = False,
    cut: Cut = None,
    samples: Samples = False,
    net: Net = None,
    weights: Weights = None,
    example: Example = None,
    kind: Kind = "category",
    outputs: Outputs = [],  # noqa: B006
    classes: Classes = [],  # noqa: B006
    preprocessing: Preprocessing = None,
    licence: Licence = None,
    sketch: Sketch = None,
    sketch_crops: SketchCrops = 0,
    description: Description = None,
    tag: Tags = [],  # noqa: B006
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Publish a module, a teacher net with a cut, or a sample set.

    The same bytes under the same name are the version that is there already: nothing is sent.

    Examples:
      graftery push cat cat.safetensors
      graftery push cat net.safetensors --cut features.12
      graftery push cats samples.npz --samples
      graftery push cat --net mypackage.nets:build --weights w.safetensors \\
        --example 3x32x32 --cut features.12 --outputs is=classification
    """
    _check(file, net, teacher=teacher, cut=cut, samples=samples, tag=tag)
    how: dict[str, Any] = {"description": text_of(description)} | ({} if cut else {"tags": tag})
    if sketch is not None:
        if samples:
            raise typer.BadParameter("--sketch goes with a module or a teacher, not with --samples")
        how |= {"sketch_images": read_images(existing(sketch)), "sketch_crops": sketch_crops}
    elif sketch_crops:
        raise typer.BadParameter("--sketch-crops goes with --sketch")
    source: Any = file
    if net is not None:
        if example is None:
            raise typer.BadParameter("--net needs --example, one sample's shape such as 3x32x32")
        said = json_of_option(preprocessing, "--preprocessing")
        how |= trace_options(pairs(outputs, "--outputs"), pairs(classes, "--classes"), said, licence)
        how |= {"example": example_of(example)} | ({} if cut else {"kind": kind})
        source = build(net, weights)
    with connect(url) as client, transfer_bar(f"push {name}") as progress:
        if samples:
            out: VersionOut | TeacherOut = client.push_samples(name, source, progress=progress, **how)
        elif cut is not None:
            out = client.push_teacher(name, source, cut=cut, progress=progress, **how)
        else:
            out = client.push(name, source, progress=progress, **how)
    if as_json:
        say_json(out)
        return
    made = _versions(out)
    for version in made:
        say(_line(version))
    with connect(url) as client:
        for version in made:
            tell_plain_name(client, version.ref)


def pull(
    ref: Ref,
    path: Annotated[
        str, typer.Argument(help="A file, or a folder for NAME-VERSION.safetensors: FOLDER/ is made.")
    ] = ".",
    *,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Download a version's file. It appears complete and verified, or not at all.

    A broken download goes on where it broke, also in the next call.

    Examples:
      graftery pull cat
      graftery pull cat@stable models/
      graftery pull cat:3 cat.safetensors --json
    """
    with connect(url) as client, transfer_bar(f"pull {ref}") as progress:
        target = client.pull(ref, path, progress=progress)
    say_json({"ref": ref, "path": str(target)}) if as_json else say(str(target))


def layers(file: ModulePath, *, as_json: Json = False) -> None:
    """List the layers of a module file: what --cut may name.

    Examples:
      graftery layers net.safetensors
    """
    names = layers_of(existing(file))
    say_json(names) if as_json else say("\n".join(names))


def _check(
    file: Path | None, net: str | None, *, teacher: bool, cut: str | None, samples: bool, tag: list[str]
) -> None:
    if (file is None) == (net is None):
        raise typer.BadParameter("give a FILE, or --net and no FILE")
    if samples and (net or cut or teacher):
        raise typer.BadParameter("--samples goes with a FILE alone")
    if file is not None and file.suffix in {".npz", ".npy"} and not samples:
        raise typer.BadParameter(f"{file} holds arrays, not a module: --samples publishes it as a sample set")
    if cut and tag:
        raise typer.BadParameter("--tag does not go with --cut; tag the parts with `graftery describe NAME --tag ...`")
    if teacher and cut is None:
        raise typer.BadParameter(f"--teacher needs --cut LAYER; `graftery layers {file or 'FILE'}` lists the layers")


def _versions(out: VersionOut | TeacherOut) -> tuple[VersionOut, ...]:
    if isinstance(out, TeacherOut):
        return out.category, *out.tasks.values(), *out.networks.values(), out.teacher
    return (out,)


def _line(version: VersionOut) -> str:
    return f"{version.ref}  {version.kind}  {size(version.size_bytes)}  sha256:{version.digest[:12]}"
