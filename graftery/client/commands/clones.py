"""clone, attach, detach: classes of one network in another, and out again."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from graftery.client.commands.following import conclude
from graftery.client.commands.options import Json, NewAlias, Url, connect, recipe_of, say, say_json
from graftery.client.commands.plain_name import tell_plain_name
from graftery.client.commands.work import Watch

Network = Annotated[str, typer.Argument(help="The network: name, name:3, name@alias.")]
Clones = Annotated[list[str], typer.Argument(help="Clones, by their references.")]
UnderName = Annotated[str | None, typer.Option(help="To publish under; by default the network's own name.")]


def clone(
    source: Annotated[str, typer.Argument(help="The network that knows the classes.")],
    target: Annotated[str, typer.Argument(help="The network that they are added to; it does not change.")],
    *,
    want: Annotated[
        list[str], typer.Option(help="A class of the source; several times, in the order of the clone's logits.")
    ],
    samples: Annotated[
        str,
        typer.Option(help="Labelled images, five a class or more: the target's classes from 0, then the wanted ones."),
    ],
    name: Annotated[str, typer.Option(help="Of the clone.")],
    network: Annotated[str | None, typer.Option(help="Publish the target with the clone under this name, too.")] = None,
    alias: NewAlias = None,
    evaluate_on: Annotated[
        str | None, typer.Option(help="Samples to measure on, labelled as those of --samples.")
    ] = None,
    source_evaluate_on: Annotated[
        str | None, typer.Option(help="Samples of the source's own classes: what else of it was cloned.")
    ] = None,
    position: Annotated[
        list[str],
        typer.Option(help="A layer of the target to try, as category.features.3; several times. By default up to six."),
    ] = [],  # noqa: B006
    keep: Annotated[float | None, typer.Option(help="Share of each layer's channels that the clone keeps.")] = None,
    originals: Annotated[str | None, typer.Option(help="noise: without an image of the target's own classes.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Of what joins the clone to the target.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of everything random.")] = None,
    recipe: Annotated[
        str | None, typer.Option(help="The whole recipe as JSON, or @FILE or FILE.json; other options go over it.")
    ] = None,
    watch: Watch = True,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Copy some classes of one network into a clone that another one can carry.

    Not a bit of the two networks changes. The clone goes into its target with `graftery attach`, and out with `graftery detach`.

    Examples:
      graftery clone birds animals --want owl --samples few --name owl
      graftery clone birds animals --want owl --want jay --samples few --name owls --network animals-and-owls
      graftery clone birds animals --want owl --samples few --name owl --position task.block --keep 0.2
    """
    options = {"keep": keep, "originals": originals, "steps": steps, "seed": seed, "positions": position or None}
    plan = recipe_of(recipe) | {key: value for key, value in options.items() if value is not None}
    said: dict[str, Any] = {"evaluate_on": evaluate_on, "source_evaluate_on": source_evaluate_on, "recipe": plan}
    with connect(url) as client:
        job = client.clone(source, target, want, name=name, samples=samples, network=network, alias=alias, **said)
        conclude(client, job, watch=watch, as_json=as_json)


def attach(
    network: Network,
    clones: Clones,
    *,
    name: UnderName = None,
    alias: NewAlias = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Publish a network with clones: its answers for its own classes stay the same bits.

    Examples:
      graftery attach animals owl
      graftery attach animals owl jay --name animals-and-birds --alias default
    """
    _change("attach", network, clones, name=name, alias=alias, url=url, as_json=as_json)


def detach(
    network: Network,
    clones: Clones,
    *,
    name: UnderName = None,
    alias: NewAlias = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Publish a network without some of its clones; without the last one it is the target again, to the digest.

    Examples:
      graftery detach animals:2 owl
      graftery detach animals-and-birds jay owl --alias default
    """
    _change("detach", network, clones, name=name, alias=alias, url=url, as_json=as_json)


def _change(
    verb: Literal["attach", "detach"],
    network: str,
    clones: list[str],
    *,
    name: str | None,
    alias: str | None,
    url: str | None,
    as_json: bool,
) -> None:
    with connect(url) as client:
        ask = client.attach if verb == "attach" else client.detach
        out = ask(network, clones, name=name, alias=alias)
        if as_json:
            say_json(out)
            return
        count = len(out.parts.clones or ()) if out.parts is not None else 0
        with_ = f"with {count} clone{'' if count == 1 else 's'}" if count else "without clones"
        say(f"{out.ref}  network {with_}  sha256:{out.digest[:12]}")
        tell_plain_name(client, out.ref)
