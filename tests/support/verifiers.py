"""Child processes that apps of tests share: they stay warm when an app ends, as importing torch takes seconds."""

from __future__ import annotations

from app.files.verifier import Verifier
from app.requests.prechecks import COMMAND
from graftery.spec.limits import Limits
from registry.children import Children


class SharedVerifier(Verifier):
    def close(self) -> None:
        pass

    def end(self) -> None:
        super().close()


class SharedPrecheckers(Children):
    def __init__(self) -> None:
        super().__init__(Limits(), 1, COMMAND, "the pre-check")

    def close(self) -> None:
        pass

    def end(self) -> None:
        super().close()
