"""Module files as nets that learn on, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx, nn

from graftery.module import ModuleFile
from graftery.module.build import buffer_names
from graftery.module.probes import PROBE_X, with_probe
from graftery.nn.learnable import learnable
from graftery.spec.manifest import Parent


@dataclass(frozen=True)
class Learning:
    """A module file whose weights learn.

    Args:
        file: what it was.
        net: in evaluation mode: batch norms stand on the statistics that the file has, and keep them.
        names: of the net's parameters, by the names of the file's weights.
    """

    file: ModuleFile
    net: fx.GraphModule
    names: Mapping[str, str]

    @classmethod
    def of(cls, file: ModuleFile, device: torch.device) -> Learning:
        net, names = file.net().to(device), buffer_names(file.graph)
        learned = {name: names[name] for name in learnable(file)}
        for buffer in learned.values():
            value = getattr(net, buffer)
            delattr(net, buffer)
            net.register_parameter(buffer, nn.Parameter(value.clone()))
        return cls(file, net, learned)

    @property
    def parameters(self) -> dict[str, Tensor]:
        """By the names of the file's weights; each requires grad."""
        return {name: getattr(self.net, parameter).requires_grad_() for name, parameter in self.names.items()}

    def made(self, parents: tuple[Parent, ...], metadata: Mapping[str, str]) -> ModuleFile:
        """The file as it is now: another module of the same kind and meaning. A sketch is of what it was, and left out."""
        found = {name: value.detach().cpu().contiguous().clone() for name, value in self.parameters.items()}
        said = self.file.manifest
        manifest = said.model_copy(update={"parents": parents, "metadata": {**said.metadata, **metadata}})
        whole = replace(self.file, manifest=manifest, weights={**self.file.weights, **found}, extras={})
        return with_probe(whole, self.file.extras[PROBE_X])
