"""One request and its answer: addresses, keys, retries, refusals. Everything above speaks of modules and jobs."""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import httpx

from graftery import __version__
from graftery.client.answers import refusal
from graftery.client.credentials import key_for
from graftery.errors import GrafteryError, ServiceError

DEFAULT_URL = "http://127.0.0.1:8080"
TIMEOUT = httpx.Timeout(connect=10.0, read=120.0, write=120.0, pool=30.0)
MAX_TRIES = 3
MAX_WAIT_S = 10.0
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class Transport:
    """Sends requests to one service.

    A request is sent again where that is safe (it changes nothing, or carries an Idempotency-Key) and can help: the
    connection broke before an answer came, or the service said 429 or 503 with a Retry-After.
    """

    def __init__(self, url: str | None = None, api_key: str | None = None) -> None:
        self.url = (url or os.environ.get("GRAFTERY_URL") or DEFAULT_URL).rstrip("/")
        try:
            parsed = httpx.URL(self.url)
        except httpx.InvalidURL:
            parsed = httpx.URL("")
        if parsed.scheme not in {"http", "https"} or not parsed.host:
            raise ServiceError(f"{self.url!r} is not an address", hint=f"write it like {DEFAULT_URL}")
        key = api_key or os.environ.get("GRAFTERY_API_KEY") or key_for(self.url)
        headers = {"User-Agent": f"graftery/{__version__}"} | (_bearer(key) if key else {})
        # A proxy from the environment must not see what goes to this machine itself.
        self._http = httpx.Client(
            base_url=self.url, headers=headers, timeout=TIMEOUT, trust_env=parsed.host not in _LOOPBACK
        )

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def get(self, path: str, **params: Any) -> httpx.Response:
        return self.request("GET", path, params={key: value for key, value in params.items() if value is not None})

    def post(self, path: str, body: Any = None, *, timeout: httpx.Timeout = TIMEOUT) -> httpx.Response:
        """POST under /v1: with an Idempotency-Key, so that a second sending is not a second deed."""
        content = {} if body is None else {"json": body}
        key = {"Idempotency-Key": uuid.uuid4().hex}
        return self.request("POST", path, headers=key, repeatable=True, timeout=timeout, **content)

    def request(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, repeatable: bool = False, **rest: Any
    ) -> httpx.Response:
        """Send, and give back an answer below 400.

        Raises:
            GrafteryError: the service's refusal, as the class that belongs to its code.
            ServiceError: there was no answer.
        """
        repeatable = repeatable or method in {"GET", "HEAD"}
        for attempt in range(1, MAX_TRIES + 1):
            last = attempt == MAX_TRIES or not repeatable
            with self._speaking():
                try:
                    response = self._http.request(method, path, headers=headers, **rest)
                except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
                    if last:
                        raise
                    continue
            if last or not _comes_back(response):
                break
            time.sleep(_retry_after_s(response))
        return checked(response)

    @contextmanager
    def stream(
        self, path: str, headers: Mapping[str, str], timeout: httpx.Timeout = TIMEOUT
    ) -> Iterator[httpx.Response]:
        """GET once and give the answer with its body unread; refusals raise as in `request`.

        A service may lead to its store: `history` has its own answer then. The key is not sent there.
        """
        asked = self._http.stream("GET", path, headers=headers, timeout=timeout, follow_redirects=True)
        with self._speaking(), asked as response:
            if response.status_code >= 400:
                response.read()
            yield checked(response)

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        try:
            yield
        except httpx.ConnectError as error:
            raise ServiceError(
                f"no service answers at {self._asked(error)}: {_cause(error)}",
                hint="is it running? start it with `graftery serve`, or give --url / GRAFTERY_URL",
                reached=False,
            ) from error
        except httpx.TransportError as error:
            raise ServiceError(
                f"the connection to {self._asked(error)} broke: {_cause(error)}",
                hint="try again; the service's log says whether it met an error",
                reached=True,
            ) from error

    def _asked(self, error: httpx.TransportError) -> str:
        """The service; or the store that it has led to."""
        url = error.request.url
        return self.url if url.host == httpx.URL(self.url).host else f"{url.scheme}://{url.netloc.decode()}"


def checked(response: httpx.Response) -> httpx.Response:
    """The response itself, unless it is a refusal."""
    if response.status_code >= 400:
        raise refusal(response)
    return response


def broke(error: ServiceError) -> bool:
    """Whether there was no answer at all, or none to the end; `reached=False`: not even a connection."""
    return "reached" in error.details


def _comes_back(response: httpx.Response) -> bool:
    return response.status_code in {429, 503} and "Retry-After" in response.headers


def _retry_after_s(response: httpx.Response) -> float:
    try:
        asked_s = float(response.headers["Retry-After"])
    except ValueError:
        asked_s = 1.0
    return min(max(asked_s, 0.1), MAX_WAIT_S)


def _cause(error: httpx.TransportError) -> str:
    return str(error) or type(error).__name__


def _bearer(key: str) -> dict[str, str]:
    """A key from a file often ends with a line's end. What is wrong with one is told without it: it must not be in a log."""
    key = key.strip()
    if not re.fullmatch(r"[!-~]+", key):
        raise GrafteryError(
            "the API key has characters that no key has",
            code="request_invalid",
            hint="look at GRAFTERY_API_KEY: a key is one word of ASCII letters, digits and signs",
        )
    return {"Authorization": f"Bearer {key}"}
