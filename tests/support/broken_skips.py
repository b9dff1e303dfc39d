"""A module that the tests of the skip rule run: it is no test file itself."""

from __future__ import annotations

import pytest


def test_that_is_skipped() -> None:
    pytest.skip("no reason")


@pytest.mark.xfail
def test_that_is_expected_to_fail() -> None:
    raise AssertionError


def test_that_passes() -> None:
    pass
