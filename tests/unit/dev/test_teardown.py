"""Who leaves takes their own clusters; what all share goes with the last."""

import pytest
from covey_dev.teardown import Ending, ending


@pytest.mark.parametrize(
    ("known", "mine", "expected", "shared"),
    [
        ([], [], Ending((), ()), True),
        (["a", "b"], ["a", "b", "c"], Ending(("a", "b"), ()), True),
        (["a", "other"], ["a", "b"], Ending(("a",), ("other",)), False),
        (["a", "other"], [], Ending((), ("a", "other")), False),
    ],
    ids=["nothing", "alone", "with others", "nothing of mine"],
)
def test_an_ending(known: list[str], mine: list[str], expected: Ending, shared: bool) -> None:
    decided = ending(known, mine)
    assert decided == expected
    assert decided.shared is shared
