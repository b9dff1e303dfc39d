"""The pool of children, with children that are no good."""

from __future__ import annotations

import sys
import threading
import time

import pytest

from graftery.errors import Unavailable
from graftery.spec.limits import Limits
from registry.children import Children
from tests.support.processes import eventually

# It never answers, and leaves somebody behind who holds its output open.
_MUTE = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(30)']); time.sleep(30)"


@pytest.mark.parametrize("program", [_MUTE, "import time; time.sleep(30)"], ids=["held open", "alone"])
def test_the_end_of_the_pool_is_the_end_of_waiting(program: str) -> None:
    children = Children(Limits(), 1, (sys.executable, "-c", program), "nothing")
    refused: list[Exception] = []

    def ask() -> None:
        try:
            children.ask("anything", "/nowhere")
        except Unavailable as error:
            refused.append(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    process = lambda: children._children[0]._process  # noqa: E731
    assert eventually(process)
    time.sleep(0.5)  # it waits for the child by now
    began = time.monotonic()
    children.close()
    asking.join(5)
    assert refused and not asking.is_alive()
    assert time.monotonic() - began < 3
