"""Amounts, ratios and durations as people write them, turned into exact numbers."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction

_DURATION = re.compile(r"^(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?$")


def token_units(amount: str, decimals: int) -> int:
    """Whole tokens as base units (ERC-20 `decimals`).

    Raises:
        ValueError: the amount has more decimal places than the token.
    """
    scaled = Decimal(amount).scaleb(decimals)
    if scaled != scaled.to_integral_value():
        raise ValueError(f"amount {amount} has more than {decimals} decimal places, which the token does not know")
    return int(scaled)


def token_amount(units: int, decimals: int) -> str:
    """Base units as whole tokens, without trailing zeros."""
    text = format(Decimal(units).scaleb(-decimals), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


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
