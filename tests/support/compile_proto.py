"""`python -m tests.support.compile_proto` writes serving/grpc/inference.binpb from inference.proto beside it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOM = Path(__file__).resolve().parents[2] / "serving/grpc"


def compiled() -> bytes:
    """The FileDescriptorSet of inference.proto."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        status = protoc.main(["protoc", f"--proto_path={ROOM}", f"--descriptor_set_out={out}", "inference.proto"])
        assert status == 0, "inference.proto cannot be compiled"
        return out.read_bytes()


if __name__ == "__main__":
    (ROOM / "inference.binpb").write_bytes(compiled())
