"""When a site has something to say in the fallback."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from covey_chain.fallback import FallbackState
from covey_validator.fallback import has_say

A, B, C = (f"0x{index:040x}" for index in (1, 2, 3))
EARNED = {A: 30, B: 20}


@pytest.mark.parametrize(
    ("active", "committed", "settled", "speaks"),
    [
        ({A, B}, {}, {}, True),
        ({A, B}, {}, {A: 30}, True),
        ({A, B}, {}, {A: 30, B: 20}, False),
        ({A, B}, {}, {A: 40, B: 20}, False),
        # Our records lack what is settled: we cannot tell that nothing is left.
        ({A, B}, {}, None, True),
        # Somebody says that there is more: without us its word would weigh more.
        ({A, B}, {B: bytes(32)}, {A: 30, B: 20}, True),
        # It was not called in: the contract would refuse it.
        ({B, C}, {B: bytes(32)}, {}, False),
    ],
)
def test_a_site_speaks_for_what_is_not_settled(
    active: set[str], committed: Mapping[str, bytes], settled: Mapping[str, int] | None, speaks: bool
):
    state = FallbackState(0, 60, True, dict.fromkeys((A, B, C), 10), frozenset(active), committed, {}, None)
    assert has_say(state, A, EARNED, settled) is speaks
