import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidInputError
from common.pairing_line import PairingLine, parse

TOKEN, FINGERPRINT = bytes(range(32)), bytes(range(32, 64))
LINE = PairingLine("appliance.dr.example:7445", TOKEN, FINGERPRINT)


@pytest.mark.parametrize("address", ["a:1", "appliance.dr.example:7445", "192.0.2.7:7445", "[2001:db8::1]:65535"])
def test_a_line_says_what_was_put_into_it(address: str) -> None:
    line = PairingLine(address, TOKEN, FINGERPRINT)
    assert parse(line.text()) == line


def test_nothing_in_a_line_is_changed_on_the_way() -> None:
    assert re.fullmatch(r"[A-Za-z0-9._:/-]+", LINE.text())
    text = LINE.text()
    assert parse(f"\n  {text[:50]}\r\n\t{text[50:]}\n") == LINE


def test_the_token_is_not_shown_by_accident() -> None:
    assert "00010203" not in repr(LINE)
    assert TOKEN.hex() not in repr(LINE)
    assert repr(TOKEN)[2:20] not in repr(LINE)


def test_every_cut_and_every_other_character_is_noticed() -> None:
    text = LINE.text()
    for at in range(len(text)):
        for altered in (text[:at], text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :], text[at + 1 :]):
            with pytest.raises(InvalidInputError) as refused:
                parse(altered)
            assert text[40:60] not in str(refused.value)


@given(st.text(max_size=300))
def test_any_text_is_a_line_or_a_sentence(text: str) -> None:
    with pytest.raises(InvalidInputError):
        parse(text)


@given(st.lists(st.text(alphabet="keysapart1/:=-_A.[]é", max_size=60), max_size=6))
def test_a_right_sum_does_not_make_a_line(parts: list[str]) -> None:
    from common.pairing_line import _sum

    head = "/".join(["keysapart1", *parts])
    with pytest.raises(InvalidInputError):
        parse(f"{head}/{_sum(head)}")
