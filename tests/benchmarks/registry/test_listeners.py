from __future__ import annotations

import socket
import threading

from benchmarks.registry import listener
from benchmarks.registry.listeners import judged


def test_delays_count_from_the_commit_to_each_and_to_the_last() -> None:
    written = {"a": {3: 10.0, 4: 11.0}}
    every = {1: 9.0, 2: 9.0, 3: 10.1, 4: 11.3, 5: 12.0, 6: 12.0}
    late = {**every, 3: 10.2, 4: 11.1}
    lost = {number: at for number, at in every.items() if number != 4}
    found = {"ended": 3, "seen": [{"job": "a", "at": at} for at in (every, late, lost)]}
    result = judged(found, written)
    assert result["complete"] == 2
    assert (round(result["last"]["p50_ms"]), round(result["last"]["p99_ms"])) == (200, 300)
    assert round(result["every"]["p50_ms"]) == 100


def test_a_stream_is_read_in_whatever_pieces_it_comes() -> None:
    pieces = [b"HTTP/1.1 200 OK\r\n\r\n5\r\nid: 1\r\nev", b"ent: state\r\n\r\n", b"id: 2\r\n", b"\r\n0\r\n\r\n"]
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                for piece in pieces:
                    connection.sendall(piece)

        thread = threading.Thread(target=answer)
        thread.start()
        found = listener.run({"port": server.getsockname()[1], "jobs": ["a"], "timeout_s": 10})
        thread.join()
    assert (found["ended"], sorted(found["seen"][0]["at"])) == (1, [1, 2])
