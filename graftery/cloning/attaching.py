"""A clone in its target, and out again: the target's graph is not touched, only read from.

    z = target up to the position      old = the target's logits      h = the target's last features
    logits = [old, clone(z) + V h, the next clone's ...]

Source: Ye et al. 2023; as one graph, ours (docs/methods/cloning.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from graftery.cloning.reading import LINEAR
from graftery.cloning.taps import last_features, value_spec
from graftery.errors import Misfit
from graftery.module import ModuleFile
from graftery.module.check import CLONE_OLD
from graftery.module.graph import INPUT, Graph, Node, renumbered
from graftery.module.joining import prefixed
from graftery.module.probes import PROBE_X, with_probe
from graftery.spec.cloning import classes_of, only_output
from graftery.spec.fit import fits, say
from graftery.spec.manifest import Parent

TARGET, LAST = "_target", "_target.last"
"""Layer paths in a net with clones: the target's own logits, and its last step. Those of each clone follow, clone by clone."""
UNNAMED = "target_classes_unnamed"
"""In the metadata of a net with clones whose target has no names of classes: beside a clone's they need some."""
SHORT = 12
"""Characters of a digest that name a clone in a net."""


@dataclass(frozen=True)
class Fragment:
    """A clone's steps in a net: they read the target's values, and `end` are its logits."""

    digest: str
    classes: tuple[str, ...]
    nodes: tuple[Node, ...]
    weights: Mapping[str, Tensor]
    names: Mapping[str, str]
    end: str


def attach(target: ModuleFile, clones: Sequence[ModuleFile]) -> ModuleFile:
    """The target with clones. Its own logits are computed by its own steps: they are the same bits.

    Args:
        target: a whole net with a probe; it may have clones already.
        clones: in the order of their logits, behind those that are there.

    Returns:
        A whole net [N, K + k], whose weights share the others' memory.

    Raises:
        Misfit: `target_changed`, `position_invalid`, `class_known`, `shape_mismatch`, `kind_mismatch`, `semantics_mismatch`.
    """
    bare, inside = opened(target)
    for clone in clones:
        inside = [*inside, _fragment(bare, inside, clone)]
    return _closed(bare, inside)


def detach(attached: ModuleFile, clone: str) -> ModuleFile:
    """The net without one of its clones; without the last one it is the target, to the digest.

    Args:
        clone: the clone's content digest, or its first characters, at least 12.

    Raises:
        Misfit: `kind_mismatch`; it has no such clone.
    """
    bare, inside = opened(attached)
    found = [each for each in inside if len(clone) >= SHORT and each.digest.startswith(clone)]
    if len(found) != 1:
        said = ", ".join(each.digest[:SHORT] for each in inside) or "none"
        raise Misfit(f"the net has no clone {clone[:64]!r}", code="kind_mismatch", hint=f"its clones: {said}")
    return _closed(bare, [each for each in inside if each is not found[0]])


def opened(file: ModuleFile) -> tuple[ModuleFile, list[Fragment]]:
    """A net's target, and its clones in the order of their logits; without clones, the net itself.

    Raises:
        Misfit: `semantics_mismatch`.
    """
    name, spec = only_output(file.manifest, "target")
    digests = [parent.digest for parent in file.manifest.parents if parent.role == "clone"]
    if not digests:
        return file, []
    graph, names = file.graph, file.graph.names
    if lacking := {TARGET, LAST, *map(_called, digests)} - names.keys():
        raise Misfit(
            f"the file names clones among its parents, but it has no layer {sorted(lacking)[0]!r}", code="kind_mismatch"
        )
    at = {node.id: index for index, node in enumerate(graph.nodes)}
    bounds = [at[names[LAST]] + 1, *(at[names[_called(digest)]] + 1 for digest in digests)]
    pieces = [graph.nodes[a:b] for a, b in pairwise(bounds)]
    sizes = [len(file.weights[f"{_called(digest)}.{CLONE_OLD}"]) for digest in digests]
    named = list(classes_of(file.manifest))
    starts = [len(named) - sum(sizes[index:]) for index in range(len(sizes) + 1)]
    inside = [
        _taken(file, digest, piece, tuple(named[a:b]))
        for digest, piece, a, b in zip(digests, pieces, starts[:-1], starts[1:], strict=True)
    ]
    unnamed = file.manifest.metadata.get(UNNAMED) is not None
    own = {"shape": ("N", starts[0]), "class_names": None if unnamed else tuple(named[: starts[0]])}
    kept = tuple(parent for parent in file.manifest.parents if parent.role not in ("clone", "target"))
    metadata = {key: value for key, value in file.manifest.metadata.items() if key != UNNAMED}
    changed = {"outputs": {name: spec.model_copy(update=own)}, "parents": kept, "metadata": metadata}
    manifest = file.manifest.model_copy(update=changed)
    nodes = graph.nodes[: bounds[0]]
    ours = {INPUT, *(node.id for node in nodes)}
    paths = {path: ref for path, ref in names.items() if ref in ours and path not in (TARGET, LAST)}
    bare = Graph(graph.input, nodes, {name: names[TARGET]}, paths)
    weights = {weight: file.weights[weight] for weight in sorted(bare.weights())}
    return with_probe(ModuleFile(manifest, bare, weights, file.extras), file.extras[PROBE_X]), inside


def _called(digest: str) -> str:
    return f"_clone.{digest[:SHORT]}"


def _taken(file: ModuleFile, digest: str, nodes: tuple[Node, ...], classes: tuple[str, ...]) -> Fragment:
    ids, end = {node.id for node in nodes}, file.graph.names[_called(digest)]
    names = {path: ref for path, ref in file.graph.names.items() if ref in ids and path.startswith(_called(digest))}
    weights = {weight: file.weights[weight] for node in nodes for weight in node.weights()}
    return Fragment(digest, classes, nodes, weights, names, end)


def _fragment(target: ModuleFile, inside: Sequence[Fragment], clone: ModuleFile) -> Fragment:
    """A clone's steps, as they read the target's values."""
    spec = _checked(target, inside, clone)
    prefix = _called(clone.content_digest)
    graph, weights = prefixed(prefix, clone)
    position, old = target.graph.names[spec], f"{prefix}.{CLONE_OLD}"
    nodes = [node.mapped(lambda ref: {"v": position if ref == INPUT else ref}) for node in graph.nodes]
    ((_, own),) = graph.outputs.items()
    seen, end = f"{prefix}.seen", f"{prefix}.logits"
    joined = (
        Node(LINEAR, seen, ({"v": last_features(target)}, {"w": old}, None)),
        Node("aten.add.Tensor", end, ({"v": own}, {"v": seen})),
    )
    names = {**graph.names, prefix: end}
    tensors = {**weights, old: clone.extras[CLONE_OLD]}
    return Fragment(clone.content_digest, classes_of_clone(clone), (*nodes, *joined), tensors, names, end)


def classes_of_clone(clone: ModuleFile) -> tuple[str, ...]:
    """The classes that a clone adds.

    Raises:
        Misfit: `kind_mismatch`; it is no clone.
    """
    if clone.manifest.clone is None:
        raise Misfit(f"a clone is needed here, not a {clone.manifest.kind}", code="kind_mismatch")
    return clone.manifest.clone.classes


def _checked(target: ModuleFile, inside: Sequence[Fragment], clone: ModuleFile) -> str:
    """Refuse a clone of another target, or whose classes are there; gives its position."""
    classes, spec = classes_of_clone(clone), clone.manifest.clone
    assert spec is not None  # noqa: S101 - it has classes
    if target.content_digest != spec.target:
        raise Misfit(
            f"the clone was made for the network {spec.target[:SHORT]}, this one is {target.content_digest[:SHORT]}",
            code="target_changed",
            hint="clone again, for this target; one of the registry's networks is graftery.cloning.networks.whole of its modules,"
            " and not the file that they were cut from",
        )
    if any(each.digest[:SHORT] == clone.content_digest[:SHORT] for each in inside):
        raise Misfit("the network has a clone of these weights already", code="class_known", hint="take it out first")
    known = {*classes_of(target.manifest), *(name for each in inside for name in each.classes)} & set(classes)
    if known:
        raise Misfit(f"the network has the class {sorted(known)[0]!r} already", code="class_known")
    if spec.position not in target.graph.names:
        raise Misfit(f"the target has no layer {spec.position!r}", code="position_invalid")
    features, old = value_spec(target, target.graph.names[spec.position]), clone.extras.get(CLONE_OLD)
    if not fits(features, clone.manifest.input):
        raise Misfit(f"the clone reads {say(clone.manifest.input)}, the layer {spec.position!r} gives {say(features)}")
    width = value_spec(target, last_features(target)).shape[-1]
    if old is None or tuple(old.shape) != (len(classes), width):
        said = "none" if old is None else str(list(old.shape))
        raise Misfit(f"the clone's tensor {CLONE_OLD} is {said}, it has to be [{len(classes)}, {width}]")
    return spec.position


def _closed(target: ModuleFile, inside: Sequence[Fragment]) -> ModuleFile:
    """The target with these clones: its logits, then theirs."""
    if not inside:
        return target
    name, spec = only_output(target.manifest, "target")
    start, graph = target.graph.outputs[name], target.graph
    end = Node("aten.cat.default", "all", ([{"v": start}, *({"v": each.end} for each in inside)], 1))
    nodes = (*graph.nodes, *(node for each in inside for node in each.nodes), end)
    names = {**graph.names, TARGET: start, LAST: graph.nodes[-1].id}
    weights = dict(target.weights)
    for each in inside:
        names |= each.names
        weights |= each.weights
    classes = (*classes_of(target.manifest), *(name for each in inside for name in each.classes))
    output = spec.model_copy(update={"shape": ("N", len(classes)), "class_names": classes})
    parents = (
        *target.manifest.parents,
        Parent(role="target", digest=target.content_digest),
        *(Parent(role="clone", digest=each.digest) for each in inside),
    )
    metadata = {**target.manifest.metadata, **({UNNAMED: "true"} if spec.class_names is None else {})}
    changed = {"outputs": {name: output}, "parents": parents, "metadata": metadata}
    manifest = target.manifest.model_copy(update=changed)
    made = Graph(graph.input, nodes, {name: end.id}, names)
    return with_probe(ModuleFile(manifest, renumbered(made), weights, target.extras), target.extras[PROBE_X])
