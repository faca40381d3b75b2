"""Hours of the week with a cap of their own: what holds when, and when it changes next."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from covey_api.subnet import ExchangeSpec
from covey_api.windows import DAYS, HORIZON, Cap, EgressWindow, cap_at
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

MINUTE = timedelta(minutes=1)
# Half hours, quarters, a change of half an hour, one at midnight, one against the seasons, and none.
ZONES = (
    "UTC", "Europe/Berlin", "America/New_York", "America/St_Johns", "Asia/Kathmandu", "Australia/Lord_Howe",
    "Africa/Cairo", "Europe/Dublin", "Pacific/Apia", "Africa/Casablanca",
)  # fmt: skip


def window(**fields: Any) -> EgressWindow:
    return EgressWindow.model_validate({"from": "08:00", "to": "18:00", "maxEgressMbps": 20, **fields})


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


@st.composite
def windows(draw: st.DrawFn, zones: tuple[str, ...] = ZONES) -> EgressWindow:
    start = draw(st.integers(0, 1439))
    end = draw(st.integers(0, 1440).filter(lambda minute: minute != start))
    return window(
        **{"from": clock(start), "to": clock(end)},
        days=draw(st.lists(st.sampled_from(DAYS), min_size=1, unique=True)),
        timeZone=draw(st.sampled_from(zones)),
        maxEgressMbps=draw(st.integers(1, 4)),
    )


instants = st.datetimes(datetime(2024, 1, 1), datetime(2030, 12, 31), timezones=st.just(UTC)).map(
    lambda found: found.replace(microsecond=0)
)


@st.composite
def near_a_change_of_the_clock(draw: st.DrawFn) -> tuple[str, datetime]:
    zone = draw(st.sampled_from([name for name in ZONES if name not in ("UTC", "Asia/Kathmandu", "Pacific/Apia")]))
    day = datetime(draw(st.integers(2024, 2030)), 1, 1, tzinfo=UTC)
    changes = [
        day + timedelta(days=n)
        for n in range(365)
        if (day + timedelta(days=n)).astimezone(ZoneInfo(zone)).utcoffset()
        != (day + timedelta(days=n + 1)).astimezone(ZoneInfo(zone)).utcoffset()
    ]
    return zone, draw(st.sampled_from(changes)) + timedelta(minutes=draw(st.integers(-2880, 2880)))


def first(of: list[EgressWindow], otherwise: float | None, now: datetime) -> float | None:
    return next((float(one.max_egress_mbps) for one in of if one.holds(now)), otherwise)


def assert_told_right(of: list[EgressWindow], otherwise: float | None, now: datetime, probes: list[float]) -> None:
    """The cap stands still until it is said to change, and changes then."""
    cap = cap_at(of, otherwise, now)
    assert cap.until is not None
    length = cap.until - now
    assert timedelta() < length <= HORIZON
    around = [MINUTE * n for n in range(180)]
    for step in (*around, *(length * share for share in probes), *(length - MINUTE - before for before in around)):
        if timedelta() <= step < length:
            assert first(of, otherwise, now + step) == cap.mbps
    if length < HORIZON:
        assert first(of, otherwise, cap.until) != cap.mbps


shares = st.lists(st.floats(0, 0.999), max_size=20)


@settings(deadline=None)
@given(st.lists(windows(), min_size=1, max_size=3), st.none() | st.just(1.0), instants, shares)
def test_nothing_changes_before_the_next_change(of, otherwise, now, probes):
    assert_told_right(of, otherwise, now, probes)


@settings(deadline=None)
@given(st.data(), near_a_change_of_the_clock(), shares)
def test_nothing_changes_before_the_next_change_where_clocks_change(data, place, probes):
    zone, now = place
    assert_told_right([data.draw(windows((zone,)))], None, now, probes)


@given(windows(), instants)
def test_a_window_holds_by_the_clock_on_the_wall(one, now):
    local = now.astimezone(ZoneInfo(one.time_zone)).replace(tzinfo=None)
    minute, day = local.hour * 60 + local.minute, local.weekday()
    start, end = (int(text[:2]) * 60 + int(text[3:]) for text in (one.start, one.end))
    length = (end - start) % 1440 or 1440
    into = (minute - start) % 1440
    began = (day - (minute < start)) % 7
    assert one.holds(now) == (into < length and DAYS[began] in one.days)


@given(st.lists(windows(), min_size=1, max_size=4), instants)
def test_the_first_window_that_holds_wins(of, now):
    assert cap_at(of, 7.0, now).mbps == first(of, 7.0, now)


def test_without_windows_nothing_ever_changes():
    assert cap_at([], None, at("2026-01-01")) == Cap(None, None)
    assert cap_at([], 100.0, at("2026-01-01")) == Cap(100.0, None)


@pytest.mark.parametrize(
    ("start", "end", "now", "mbps", "until"),
    [
        # Berlin puts its clock forward on 29 March 2026, from 02:00 to 03:00 (01:00 UTC) ...
        ("08:00", "18:00", "2026-03-28T06:59", 100, "2026-03-28T07:00"),
        ("08:00", "18:00", "2026-03-29T05:59", 100, "2026-03-29T06:00"),
        ("02:30", "03:30", "2026-03-29T00:00", 100, "2026-03-29T01:00"),
        ("02:30", "03:30", "2026-03-29T01:00", 20, "2026-03-29T01:30"),
        ("02:00", "03:00", "2026-03-28T02:00", 100, "2026-03-30T00:00"),  # that hour does not come on the 29th
        ("22:00", "06:00", "2026-03-28T22:00", 20, "2026-03-29T04:00"),
        # ... and back on 25 October, from 03:00 to 02:00 (01:00 UTC).
        ("02:00", "03:00", "2026-10-25T00:00", 20, "2026-10-25T02:00"),
        ("02:00", "02:30", "2026-10-25T00:00", 20, "2026-10-25T00:30"),
        ("02:00", "02:30", "2026-10-25T00:30", 100, "2026-10-25T01:00"),
        ("02:00", "02:30", "2026-10-25T01:00", 20, "2026-10-25T01:30"),
        ("22:00", "06:00", "2026-10-24T20:00", 20, "2026-10-25T05:00"),
    ],
)
def test_hours_are_kept_over_changes_of_the_clock(start, end, now, mbps, until):
    berlin = window(**{"from": start, "to": end}, timeZone="Europe/Berlin")
    assert cap_at([berlin], 100.0, at(now)) == Cap(mbps, at(until))


@pytest.mark.parametrize(
    ("now", "holds"),
    [
        ("2026-11-27T21:59", False),  # a Friday
        ("2026-11-27T22:00", True),
        ("2026-11-28T05:59", True),
        ("2026-11-28T06:00", False),
        ("2026-11-28T22:00", False),
    ],
)
def test_a_window_over_midnight_belongs_to_the_day_on_which_it_begins(now, holds):
    assert window(**{"from": "22:00", "to": "06:00"}, days=["Fri"]).holds(at(now)) == holds


def test_a_whole_day_ends_with_it():
    sunday = window(**{"from": "00:00", "to": "24:00"}, days=["Sun"])
    assert cap_at([sunday], None, at("2026-11-29T12:00")) == Cap(20, at("2026-11-30T00:00"))


@pytest.mark.parametrize("zone", ["Europe/Berln", "Europe", "Mars/Phobos", "Etc/GMT+99"])
def test_an_unknown_time_zone_names_the_field_and_the_remedy(zone):
    hours = {"from": "08:00", "to": "18:00", "timeZone": zone, "maxEgressMbps": 1}
    with pytest.raises(ValidationError) as refused:
        ExchangeSpec.model_validate({"advertise": "a.example", "windows": [hours]})
    (error,) = refused.value.errors()
    assert error["loc"] == ("windows", 0, "timeZone")
    assert f'"{zone}" is no time zone' in error["msg"]
    assert "such as Europe/Berlin" in error["msg"]


def test_nothing_at_all_is_refused_with_what_to_do_instead():
    with pytest.raises(ValidationError, match=r"0 is not allowed, .* to stay away for hours, set spec\.suspend"):
        window(maxEgressMbps=0)
