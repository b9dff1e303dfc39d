"""The client of uploads, the same for ours and the floor: `python -m benchmarks.registry.sender PLAN.json`.

Sends a file with a number in it, each time another one, as PUT on one connection; seconds from the first byte sent to the answer.
"""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.registry.files import numbered

PIECE_BYTES = 1024 * 1024


def send(connection: socket.socket, path: str, data: bytes, headers: dict[str, str]) -> tuple[int, bytes, float]:
    """Status, body and seconds of one PUT."""
    lines = [f"PUT {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(data)}"]
    lines += ["Content-Type: application/octet-stream", *(f"{name}: {value}" for name, value in headers.items())]
    view = memoryview(data)
    began = time.perf_counter()
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    for start in range(0, len(view), PIECE_BYTES):
        connection.sendall(view[start : start + PIECE_BYTES])
    status, body = _answer(connection)
    return status, body, time.perf_counter() - began


def _answer(connection: socket.socket) -> tuple[int, bytes]:
    taken = b""
    while b"\r\n\r\n" not in taken:
        taken += _piece(connection)
    head, _, body = taken.partition(b"\r\n\r\n")
    sizes = [line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    while len(body) < int(sizes[0]):
        body += _piece(connection)
    return int(head[9:12]), body


def _piece(connection: socket.socket) -> bytes:
    piece = connection.recv(65_536)
    if not piece:
        raise ConnectionResetError("the server ended the connection")
    return piece


def run(plan: dict[str, Any]) -> dict[str, Any]:
    """Send each number of the plan; every status must be the one that is expected."""
    data = Path(plan["file"]).read_bytes() if plan["file"] else b""
    seconds = []
    with socket.create_connection(("127.0.0.1", plan["port"]), timeout=300) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number in plan["numbers"]:
            body = numbered(data, number) if data else b""
            headers = {"Repr-Digest": _digest(body)} if plan["refused"] else {}
            path = plan["path"].format(number=number, digest=plan["digests"].get(str(number), ""))
            status, answer, took = send(connection, path, body, headers)
            if status != plan["status"]:
                raise ValueError(f"{path} answered {status}: {answer[:200]!r}")
            seconds.append(took)
    return {"seconds": seconds, "size_bytes": len(data)}


def _digest(body: bytes) -> str:
    """Of other bytes than are sent."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body + b'.').digest()).decode()}:"


def main() -> None:
    print(json.dumps(run(json.loads(Path(sys.argv[1]).read_text()))))


if __name__ == "__main__":
    main()
