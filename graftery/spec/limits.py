"""Caps on what a stranger's file may ask of the verifier: start values with their reasons in docs/module-file.md."""

from __future__ import annotations

from graftery.spec.manifest import Frozen

MIB = 1024**2
GIB = 1024**3


class Limits(Frozen):
    file_bytes: int = 4 * GIB
    header_bytes: int = 4 * MIB
    tensors: int = 8_000
    rank: int = 6
    nodes: int = 20_000
    list_length: int = 64
    elements_per_value: int = 2**28
    elements_per_sample: int = 2**30
    flops_per_sample: int = 10**13
    pieces: int = 1_024
    cpu_s: int = 20
    wall_s: int = 120
    memory_base_bytes: int = 2 * GIB
    memory_per_file_byte: int = 4
