from __future__ import annotations

import hmac

import pytest

from registry.access import tokens


def test_a_token_names_its_id_and_is_new_each_time() -> None:
    first, second = tokens.new_token("0123456789ab"), tokens.new_token("0123456789ab")
    assert first != second
    assert tokens.id_of(first) == tokens.id_of(second) == "0123456789ab"


@pytest.mark.parametrize(
    "text", ["", "gft_", "gft_0123456789ab_", "Bearer x", "gft_0123456789ab_" + "ü" * 43, "a" * 10_000]
)
def test_what_is_no_token_has_no_id(text: str) -> None:
    assert tokens.id_of(text) is None


def test_hashes_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def compare(one: str, other: str) -> bool:
        asked.append((one, other))
        return True

    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert tokens.is_same("a", "b")
    assert asked == [("a", "b")]
    assert not tokens.is_same("a", None)


def test_a_text_for_the_log_has_the_id_alone() -> None:
    token = tokens.new_token("0123456789ab")
    said = tokens.without_secrets(f"{{'authorization': 'Bearer {token}'}}")
    assert said == "{'authorization': 'Bearer gft_0123456789ab_***'}"
    assert tokens.without_secrets("nothing of ours") == "nothing of ours"
