"""Verbs that move files: push and pull."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from numpy.typing import ArrayLike

from graftery.client.answers import parse
from graftery.client.catalogue import CatalogueVerbs
from graftery.client.packing import SketchOf, Source, packed, packed_samples
from graftery.client.sending import send
from graftery.client.transfer import Address, Progress, Wanted, download, sha256_of
from graftery.client.verbs import module_path, version_path
from graftery.spec.names import check_name
from graftery.spec.uploading import Target
from graftery.spec.wire import TeacherOut, VersionOut

if TYPE_CHECKING:
    from torch import Tensor


_SEPARATORS = tuple(filter(None, (os.sep, os.altsep)))


class PublishingVerbs(CatalogueVerbs):
    def push(
        self,
        name: str,
        source: Source,
        example: Tensor | None = None,
        *,
        sketch_images: ArrayLike | None = None,
        sketch_crops: int = 0,
        description: str | None = None,
        tags: Sequence[str] = (),
        progress: Progress | None = None,
        **trace: Any,
    ) -> VersionOut:
        """Publish a category module, a task module, an adapter, a compatibility group or a clone as a new version of `name`.

        Args:
            source: a module file, its path, or an `nn.Module`; a net is traced here, on this machine, and only its
                operators and weights are sent.
            example: an input of the net with at least two rows; needed for an `nn.Module` only.
            sketch_images: images [n, ...] of yours, preprocessed: statistics of a category module's features on them are
                made here and sent along (never the images); they help transplants without labels.
            sketch_crops: crops of its feature maps to send along too, for segmentation: much better, and each tells of half
                the height and width of an image nearly as much as that part of the image would.
            trace: for an `nn.Module`, the arguments of `graftery.trace`: kind, outputs, preprocessing, licence, ...;
                an output's meaning may be its semantics alone: `outputs={"is_cat": "classification"}`; preprocessing may be a dict.
        Returns:
            The version; the one that is there, without sending a byte, if it has the same bytes.
        Raises:
            TraceRefused: the net uses something that a module file cannot hold.
            ModuleFileError: the service's verifier refused the file.
        """
        sketch = None if sketch_images is None else SketchOf(sketch_images, crops=sketch_crops)
        with packed(source, example, sketch, **{"kind": "category", **trace}) as file:
            return self._publish(name, Address(module_path(name), _params(description, tags), progress), file)

    def push_teacher(
        self,
        name: str,
        source: Source,
        example: Tensor | None = None,
        *,
        cut: str,
        sketch_images: ArrayLike | None = None,
        sketch_crops: int = 0,
        description: str | None = None,
        progress: Progress | None = None,
        **trace: Any,
    ) -> TeacherOut:
        """Publish a whole net and let the service cut it at the layer `cut`.

        It becomes the category module NAME, a task module NAME-OUTPUT for each output, the teacher NAME-teacher and
        the networks NAME-OUTPUT-teacher, which give the teacher's own answers.

        Raises:
            CutRefused: `cut` is no layer (the hint names the nearest), or it does not separate the net.
        """
        path = f"/v1/teachers/{quote(check_name(name), safe='')}"
        address = Address(path, _params(description, ()) | {"cut": cut}, progress)
        sketch = None if sketch_images is None else SketchOf(sketch_images, cut, sketch_crops)
        with packed(source, example, sketch, **{"kind": "teacher", **trace}) as file:
            digest = sha256_of(file)
            there = self._existing_teacher(name, digest, cut)
            if there is None:
                return parse(TeacherOut, send(self._transport, address, file, digest, "teacher"))
        self._amend(name, description, ())
        return there

    def push_samples(
        self,
        name: str,
        x: ArrayLike | str | os.PathLike[str],
        y: ArrayLike | None = None,
        *,
        description: str | None = None,
        tags: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> VersionOut:
        """Publish a sample set.

        Args:
            x: inputs [n, ...], or the path of a .safetensors or .npz file with `x` and, optionally, `y`.
            y: labels [n] or [n, ...]; none: an unlabelled set.
        """
        path = f"/v1/samples/{quote(check_name(name), safe='')}"
        with packed_samples(x, y) as file:
            return self._publish(name, Address(path, _params(description, tags), progress), file, "samples")

    def pull(self, ref: str, path: str | os.PathLike[str] = ".", *, progress: Progress | None = None) -> Path:
        """Download a version's file; it appears complete and verified, or not at all.

        Args:
            path: a file, or a folder (one that is there, or is written with a slash at its end): then the file is NAME-VERSION.safetensors
                in it (a network's: .json).
        Returns:
            Where the file is now. A file that is there already with the same bytes is left as it is.
        """
        version = self.inspect(ref)
        target = Path(path)
        if target.is_dir() or str(path).endswith(_SEPARATORS):  # a Path has lost what says that a folder is meant
            suffix = "json" if version.kind == "network" else "safetensors"
            target /= f"{version.name}-{version.version}.{suffix}"
        if target.is_file() and sha256_of(target) == version.digest:
            return target
        # By digest: an alias that moves between two ranges of one download would mix two files.
        address = f"{version_path(f'{version.name}@sha256:{version.digest}')}/file"
        download(self._transport, Wanted(address, version.digest, version.size_bytes, progress), target)
        return target

    def _publish(self, name: str, address: Address, file: Path, target: Target = "module") -> VersionOut:
        digest = sha256_of(file)
        there = self._existing(name, digest)
        if there is None or there.yanked:
            return parse(VersionOut, send(self._transport, address, file, digest, target))
        self._amend(name, address.params.get("description"), address.params.get("tag", ()))
        return there

    def _existing_teacher(self, name: str, digest: str, cut: str) -> TeacherOut | None:
        """What this teacher became when it was cut there before, if all of it is there."""
        teacher = self._existing(f"{name}-teacher", digest)
        if teacher is None or teacher.manifest is None:
            return None
        outputs = [*teacher.manifest.outputs]
        wanted = {name, *(f"{name}-{output}{suffix}" for output in outputs for suffix in ("", "-teacher"))}
        refs = [node.ref for node in self.lineage(teacher.ref, "down").nodes if node.ref.rpartition(":")[0] in wanted]
        found = [version for version in map(self.inspect, refs) if not version.yanked]
        cuts = {version.name: version for version in found if version.manifest and version.manifest.cut == cut}
        return _as_teacher_out(name, teacher, cuts, [version for version in found if version.parts])

    def _amend(self, name: str, description: str | None, tags: Sequence[str]) -> None:
        """What an upload would have done besides: set the description, add the tags."""
        if description is not None or tags:
            known = self.module(name)
            if description not in {None, known.description} or set(tags) - set(known.tags):
                self.update(name, description=description, tags=sorted({*known.tags, *tags}))


def _as_teacher_out(
    name: str, teacher: VersionOut, cuts: Mapping[str, VersionOut], networks: Sequence[VersionOut]
) -> TeacherOut | None:
    """The answer that the service gave for these versions; None where a part is not among them or was yanked."""
    outputs = [*teacher.manifest.outputs] if teacher.manifest else []
    tasks = {output: cuts[f"{name}-{output}"] for output in outputs if f"{name}-{output}" in cuts}
    by_parts = {
        (network.name, network.parts.category, network.parts.task): network
        for network in networks
        if network.parts and not network.parts.clones
    }
    composed = {
        output: by_parts.get((f"{name}-{output}-teacher", cuts[name].digest, task.digest))
        for output, task in tasks.items()
        if name in cuts
    }
    whole = {output: network for output, network in composed.items() if network is not None}
    if teacher.yanked or len(whole) < len(outputs):
        return None
    return TeacherOut(teacher=teacher, category=cuts[name], tasks=tasks, networks=whole)


def _params(description: str | None, tags: Sequence[str]) -> dict[str, Any]:
    """Query parameters of an upload; `tag` may come several times."""
    return ({} if description is None else {"description": description}) | ({"tag": [*tags]} if tags else {})
