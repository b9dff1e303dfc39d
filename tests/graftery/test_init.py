from __future__ import annotations

import subprocess
import sys

import pytest

import graftery


@pytest.mark.parametrize("name", graftery.__all__)
def test_every_public_name_can_be_had(name: str) -> None:
    assert getattr(graftery, name) is not None


def test_public_names_mean_the_same_whatever_was_imported_before() -> None:
    """A room of the same name would take the place of what is exported, once it is imported."""
    code = """
import graftery, pkgutil, importlib
rooms = [f"graftery.{room.name}" for room in pkgutil.iter_modules(graftery.__path__)]
first = {name: getattr(graftery, name) for name in graftery.__all__}
for room in rooms:
    importlib.import_module(room)
print([name for name in graftery.__all__ if getattr(graftery, name) is not first[name]])
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_nothing_is_loaded_before_it_is_used() -> None:
    code = "import graftery, sys; print([name for name in ('torch', 'httpx', 'pydantic') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_an_unknown_name_is_named() -> None:
    with pytest.raises(AttributeError, match="'graftery' has no attribute 'graft'"):
        _ = graftery.graft
