"""How many rows are worth running together."""

from __future__ import annotations

import time

import pytest

from serving import pace

SMALL = {1: 1.0, 2: 0.8, 8: 0.6}
LARGE = {1: 20.0, 2: 19.9, 8: 21.0}


@pytest.mark.parametrize(
    ("paces", "rows"),
    [
        ([SMALL], 32),
        ([LARGE], 1),
        ([{1: 10.0, 2: 8.0, 8: 7.9}], 2),
        ([SMALL, LARGE], 1),  # what is saved by the one is lost in the other
        ([SMALL, None], 32),
        ([], 32),
    ],
)
def test_company_has_to_pay_for_all_forms_on_the_way(paces: list[pace.Pace | None], rows: int) -> None:
    assert pace.worthwhile(paces, 32) == rows


def test_never_more_than_the_limit() -> None:
    assert pace.worthwhile([{1: 10.0, 2: 8.0, 8: 7.9}], 1) == 1
    assert pace.worthwhile([SMALL], 4) == 4


def test_a_pace_is_seconds_a_row() -> None:
    found = pace.measured(lambda rows: time.sleep(0.002 * rows))
    assert set(found) == set(pace.SIZES)
    assert all(seconds >= 0.002 for seconds in found.values())


def test_a_pace_survives_its_file_and_one_of_other_sizes_is_none() -> None:
    assert pace.read(pace.written(SMALL)) == SMALL
    assert pace.read(None) is None
    assert pace.read('{"1": 1.0}') is None
