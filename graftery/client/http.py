"""The client of a Graftery service.

    from graftery import Client

    with Client() as client:                      # GRAFTERY_URL, else http://127.0.0.1:8080
        job = client.transplant("eight", "even-is", name="eight-in-even")
        client.wait(job)
        logits = client.infer("eight-in-even", images)

Every refusal of the service is a GrafteryError of the class that the library itself would raise, with its `code`,
`hint` and `details`. Where nothing answers: ServiceError.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from graftery.client.access import AccessVerbs
from graftery.client.answers import parse
from graftery.client.certifying import CertificateVerbs
from graftery.client.cloning import CloneVerbs
from graftery.client.generic import GenericVerbs
from graftery.client.inference import InferenceVerbs
from graftery.client.jobs import JobVerbs
from graftery.client.transport import Transport
from graftery.spec.wire import Health


class Client(CertificateVerbs, JobVerbs, CloneVerbs, GenericVerbs, InferenceVerbs, AccessVerbs):
    """Speaks with one service; keeps its connections until it is closed. One thread at a time.

    Args:
        url: of the service; by default GRAFTERY_URL, else http://127.0.0.1:8080.
        api_key: sent as a bearer token; by default GRAFTERY_API_KEY, else the one that `graftery keys save` keeps for
            this service.
    """

    def __init__(self, url: str | None = None, api_key: str | None = None) -> None:
        self._transport = Transport(url, api_key)

    @property
    def url(self) -> str:
        return self._transport.url

    def health(self) -> Health:
        return parse(Health, self._transport.get("/health"))

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
