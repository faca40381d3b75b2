from fractions import Fraction

import pytest
from covey_api.quantity import duration_seconds, ratio, token_amount, token_units, token_words
from hypothesis import given
from hypothesis import strategies as st


@given(units=st.integers(0, 10**40), decimals=st.integers(0, 18))
def test_amounts_come_back_exactly(units: int, decimals: int):
    assert token_units(token_amount(units, decimals), decimals) == units


@pytest.mark.parametrize(
    ("units", "decimals", "text"),
    [
        (0, 18, "0"),
        (10**18, 18, "1"),
        (1_500_000, 6, "1.5"),
        (100, 0, "100"),
        # more digits than the default context of `decimal` keeps
        (123456789012345678901234567890123456789, 18, "123456789012345678901.234567890123456789"),
    ],
)
def test_amounts_read_as_people_write_them(units: int, decimals: int, text: str):
    assert token_amount(units, decimals) == text


def test_amounts_for_people_are_short_and_never_too_much():
    assert token_words(1681_928721153198454506, 18) == "1681.9287"
    assert token_words(99_999, 18) == "0"
    assert token_words(1_500_000, 6) == "1.5"
    assert token_words(123, 2) == "1.23"


def test_an_amount_finer_than_the_token_is_refused():
    with pytest.raises(ValueError, match="more than 6 decimal places"):
        token_units("0.0000001", 6)


@given(hours=st.integers(0, 9999), minutes=st.integers(0, 59), seconds=st.integers(0, 59))
def test_durations_add_up(hours: int, minutes: int, seconds: int):
    assert duration_seconds(f"{hours}h{minutes}m{seconds}s") == hours * 3600 + minutes * 60 + seconds


@pytest.mark.parametrize("text", ["", "10", "1d", "1m1h", "h"])
def test_what_is_no_duration_is_refused(text: str):
    with pytest.raises(ValueError, match="not a duration"):
        duration_seconds(text)


def test_ratios_are_exact():
    assert ratio("1/64") == Fraction(1, 64)
    assert ratio("0.05") == Fraction(1, 20)
