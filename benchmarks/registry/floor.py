"""What an upload costs at least: read a socket, hash, write a file, make it durable. `python -m benchmarks.registry.floor PORT FOLDER`

One connection at a time, HTTP as far as Content-Length. `PUT /staged` ends as an upload of ours that is refused after its last byte:
the file is durable, and removed. `PUT /kept` renames it, and makes that durable too.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys
import tempfile
from pathlib import Path

CHUNK_BYTES = 1024 * 1024


def serve(listening: socket.socket, folder: Path) -> None:
    """Answer connections one after the other, for ever."""
    buffer = bytearray(CHUNK_BYTES)
    while True:
        connection, _ = listening.accept()
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while upload(connection, folder, buffer):
                pass


def upload(connection: socket.socket, folder: Path, buffer: bytearray) -> bool:
    """Take one file and answer with its sha256; False where the client has gone, or asks for something else."""
    head, rest = _head(connection)
    lines = head.decode("latin-1").split("\r\n")
    sizes = [int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length:")]
    if not sizes:
        if lines[0].startswith("GET "):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        return False
    handle, name = tempfile.mkstemp(dir=folder)
    digest, left, view = hashlib.sha256(rest), sizes[0] - len(rest), memoryview(buffer)
    os.write(handle, rest)
    while left:
        taken = connection.recv_into(view, min(left, CHUNK_BYTES))
        if not taken:
            break
        digest.update(view[:taken])
        os.write(handle, view[:taken])
        left -= taken
    os.fsync(handle)
    os.close(handle)
    _end(Path(name), folder / digest.hexdigest(), kept=lines[0].startswith("PUT /kept"))
    body = digest.hexdigest().encode()
    connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    return True


def _head(connection: socket.socket) -> tuple[bytes, bytes]:
    taken = b""
    while b"\r\n\r\n" not in taken:
        piece = connection.recv(65_536)
        if not piece:
            return b"", b""
        taken += piece
    head, _, rest = taken.partition(b"\r\n\r\n")
    return head, rest


def _end(staged: Path, target: Path, *, kept: bool) -> None:
    if not kept:
        staged.unlink()
        return
    staged.rename(target)
    folder = os.open(target.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listening:
        serve(listening, Path(sys.argv[2]))
