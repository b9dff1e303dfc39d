"""A TCP proxy on a free port that counts what clients send, and cuts connections as a test says."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import cycle
from urllib.parse import urlsplit

_CHUNK_BYTES = 65_536


class Proxy:
    """Connections lead to the targets in turn, which may change; after `cut_after` bytes of a client they are cut.

    `on_bytes` is called with all that clients have sent so far.
    """

    def __init__(self, target_url: str) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.lead_to(target_url)
        self.cut_after: int | None = None
        self.cuts = 0
        self.sent = 0
        self.on_bytes: Callable[[int], None] = lambda sent: None
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()

    def lead_to(self, *urls: str) -> None:
        split = [urlsplit(url) for url in urls]
        self._targets = cycle([(each.hostname or "", each.port or 80) for each in split])

    def accept(self) -> None:
        """Until the proxy is closed."""
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def cut(self) -> int:
        """End every connection that is open now; how many."""
        with self._lock:
            cut = list(self._open)
            for client in cut:
                with suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)
        return len(cut)

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(next(self._targets)) as server:
            with self._lock:
                self._open.add(client)
            try:
                back = threading.Thread(target=_pump, args=[server, client], daemon=True)
                back.start()
                self._forward(client, server)
            finally:
                with self._lock:
                    self._open.discard(client)
                # Closing alone tells the server nothing while `back` reads.
                with suppress(OSError):
                    server.shutdown(socket.SHUT_WR)

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        passed = 0
        while data := client.recv(_CHUNK_BYTES):
            server.sendall(data)
            passed += len(data)
            with self._lock:
                self.sent += len(data)
                self.on_bytes(self.sent)
                if self.cut_after is not None and passed >= self.cut_after:
                    self.cuts += 1
                    return


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(_CHUNK_BYTES):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxying(target_url: str) -> Iterator[Proxy]:
    """A proxy in front of a service, for as long as the block runs."""
    proxy = Proxy(target_url)
    thread = threading.Thread(target=proxy.accept, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.close()
        thread.join()
