"""The head of a request, bounded: the parser itself takes names, values and chunk extensions without an end.

What comes before a request's body is looked at by nobody but uvicorn's parser, and it keeps all of it. So does it with what stands
between the pieces of a chunked body and behind them.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

HEAD_BYTES = 64 * 1024
"""Of one request; what the network hands over at once may lie above it."""

_SAID = f"the head of a request holds at most {HEAD_BYTES} bytes\n".encode()
_REFUSAL = STATUS_LINE[431] + b"\r\n".join(
    [b"content-type: text/plain; charset=utf-8", b"content-length: %d" % len(_SAID), b"connection: close", b"", _SAID]
)


class BoundedHead(HttpToolsProtocol):
    """uvicorn's protocol, which ends a connection whose head goes on beyond `HEAD_BYTES`."""

    _idle = 0
    """Bytes since the request last went on."""
    _named = 0
    """Bytes of the request's names and values."""

    def data_received(self, data: bytes) -> None:
        self._idle += len(data)
        super().data_received(data)
        if max(self._idle, self._named) > HEAD_BYTES and not self.transport.is_closing():
            self._refuse()

    def on_message_begin(self) -> None:
        self._idle = self._named = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._named += len(name) + len(value)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._idle = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._idle = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._idle = 0
        super().on_message_complete()

    def _refuse(self) -> None:
        """Nothing is said where an answer is on its way: it would be taken for a part of it."""
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(_REFUSAL)
        self.transport.close()
