"""The page at the end."""

from decimal import Decimal

from covey_demo.table import Entry, Row, look_around, table


def row(member: str, sent: int = 12_345) -> Row:
    return Row(member, 0.9512, 0.9876, 0.9881, sent, "103x", 4)


def test_every_member_has_a_line_below_the_headings() -> None:
    lines = table([row("st-mary"), row("lakeside", 9)]).splitlines()
    assert [line.split()[0] for line in lines] == ["member", "st-mary", "lakeside"]
    assert "0.9512" in lines[1]
    assert "12,345" in lines[1]


def test_the_ledger_is_in_whole_tokens() -> None:
    amounts = map(Decimal, ("10000", "0", "0.5", "3150", "66666.6049", "-3149"))
    headings, line = table([Entry("lakeside", *amounts)]).splitlines()
    assert headings.split() == ["member", "stake", "held", "refunded", "slashed", "earned", "net"]
    assert line.split() == ["lakeside", "10,000.00", "0.00", "0.50", "3,150.00", "66,666.60", "-3,149.00"]


def test_columns_stand_below_each_other() -> None:
    lines = table([row("st-mary"), row("lakeside", 9)]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert len({line.index("103x") for line in lines[1:]}) == 1


def test_every_member_gets_commands_with_its_own_kubeconfig() -> None:
    text = look_around({"st-mary": "/a/kubeconfig", "lakeside": "/b/kubeconfig"}, "wdbc")
    assert "KUBECONFIG=/a/kubeconfig kubectl -n oncology describe ft wdbc" in text
    assert "KUBECONFIG=/b/kubeconfig" in text
