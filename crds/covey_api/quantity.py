"""Amounts, ratios and durations as people write them, turned into exact numbers."""

from __future__ import annotations

import re
from fractions import Fraction

_SHOWN_DECIMALS = 4
_DURATION = re.compile(r"^(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?$")


def token_units(amount: str, decimals: int) -> int:
    """Whole tokens as base units (ERC-20 `decimals`), exactly.

    Raises:
        ValueError: the amount has more decimal places than the token.
    """
    scaled: Fraction = Fraction(amount) * 10**decimals
    if scaled.denominator != 1:
        raise ValueError(f"amount {amount} has more than {decimals} decimal places, which the token does not know")
    return scaled.numerator


def token_amount(units: int, decimals: int) -> str:
    """Base units (not negative) as whole tokens, exactly, without trailing zeros."""
    whole, rest = divmod(units, 10**decimals)
    places = str(rest).zfill(decimals).rstrip("0") if rest else ""
    return f"{whole}.{places}" if places else str(whole)


def token_words(units: int, decimals: int) -> str:
    """Base units (not negative) as whole tokens for people: rounded down to four decimal places."""
    dust = 10 ** max(0, decimals - _SHOWN_DECIMALS)
    return token_amount(units - units % dust, decimals)


def ratio(text: str) -> Fraction:
    """A quotient ("1/64") or decimal ("0.05") as an exact fraction."""
    return Fraction(text)


def duration_seconds(text: str) -> int:
    """Seconds of a duration such as 90s, 10m or 1h30m.

    Raises:
        ValueError: not a duration.
    """
    match = _DURATION.match(text)
    if match is None or not text:
        raise ValueError(f"{text!r} is not a duration such as 90s, 10m or 1h30m")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds
