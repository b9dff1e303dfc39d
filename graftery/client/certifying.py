"""Verbs about certificates: what the service says of a network, and a replay of it on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from graftery.client.answers import parse
from graftery.client.publishing import PublishingVerbs
from graftery.client.transfer import Wanted, download
from graftery.client.verbs import version_path
from graftery.errors import NotFound
from graftery.spec.certificate import CertificateOut, Verification

if TYPE_CHECKING:
    from graftery.module import ModuleFile
    from graftery.transplant.certificate import Probes


class CertificateVerbs(PublishingVerbs):
    def certificate(self, ref: str) -> CertificateOut:
        """How a network was recorded, and how it answered after each transplant since.

        Raises:
            Conflict: `kind_mismatch`: the reference names no network.
        """
        return parse(CertificateOut, self._transport.get(f"{version_path(ref)}/certificate"))

    def verify(self, ref: str, *, device: str | None = None) -> Verification:
        """Download a network's modules and its record, compose it here, and compare its outputs with those of the record.

        Args:
            ref: `name`, `name:3` or `name@alias`.
            device: where to compute, `cpu` or `cuda`; by default that of the record, if it is here. On the record's device
                class the outputs have to be the same to the bit, elsewhere within a tolerance.
        Raises:
            NotFound: no worker has recorded the network yet.
            StoreError: `digest_mismatch`: what arrived is not what the registry names.
        """
        said = self.certificate(ref)
        if said.probes is None:
            hint = "the next transplant that shares a module with it makes one"
            raise NotFound(f"{said.network} has no record of probes yet", hint=hint)
        with TemporaryDirectory(prefix="graftery-") as folder:
            parts, probes = self._fetched(said, Path(folder))
        return _replayed(said, parts, probes, device)

    def _fetched(self, said: CertificateOut, folder: Path) -> tuple[dict[str, ModuleFile], Probes]:
        from graftery.module import ModuleFile
        from graftery.transplant.certificate import Probes

        assert said.probes is not None  # noqa: S101  its caller has looked
        target = folder / "probes"
        address = f"{version_path(said.network)}/probes"
        download(self._transport, Wanted(address, said.probes.digest, said.probes.size_bytes), target)
        pins: dict[str, str] = dict(said.parts.items())
        pins |= {f"clone.{index}": pin for index, pin in enumerate(said.clones)}
        return {place: ModuleFile.load(self.pull(pin, folder)) for place, pin in pins.items()}, Probes.load(target)


def _replayed(said: CertificateOut, parts: dict[str, ModuleFile], probes: Probes, device: str | None) -> Verification:
    import torch

    from graftery.cloning.networks import whole
    from graftery.transplant import compose
    from graftery.transplant.certificate import device_class, replay

    there = probes.device_class.device
    where = device or (there if there == "cpu" or torch.cuda.is_available() else "cpu")
    net = whole(parts).net() if said.clones else compose(parts["category"], parts.get("adapter"), parts["task"])
    with _threads(probes.device_class.threads):
        found, here = replay(net, probes, where), device_class(where)
    return Verification(
        compared=found.compared,
        same=found.same,
        identical=found.identical,
        reason=found.reason,
        device_class=here,
        certificate=said,
    )


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """As many threads as the record was made with: sums depend on their number."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
