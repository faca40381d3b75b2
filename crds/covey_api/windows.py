"""Windows of time in which another cap on outgoing traffic holds; pure functions of an instant.

A window holds while the clock on the wall of its time zone shows a time within it. So it keeps its hours over the
changes of daylight saving; an hour that the clock shows twice counts twice, and an hour that it skips not at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, StringConstraints

from covey_api.base import LIST_SET, ApiModel, Rule

HORIZON = timedelta(days=8)  # a week holds every weekday and time once; a day more for the zones' offsets


class Day(StrEnum):
    """A day of the week."""

    MON = "Mon"
    TUE = "Tue"
    WED = "Wed"
    THU = "Thu"
    FRI = "Fri"
    SAT = "Sat"
    SUN = "Sun"


DAYS = tuple(Day)  # in the order of `datetime.weekday`


def _known_zone(name: str) -> str:
    """Return the name.

    Raises:
        ValueError: there is no such time zone; says what to write instead.
    """
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # OSError: the name is a folder of the database
        raise ValueError(
            f'"{name}" is no time zone of the IANA database; write one of its names, such as Europe/Berlin, or UTC'
        ) from error
    return name


TimeZone = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,2}$", max_length=64),
    AfterValidator(_known_zone),
]
_CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9]"


class EgressWindow(ApiModel):
    """Hours of the week with a cap of their own."""

    rules = (
        Rule(
            "self.from != self.to",
            "from and to must differ; a whole day is from 00:00 to 24:00",
            lambda window: window.start != window.end,
        ),
    )

    days: Annotated[
        list[Day],
        Field(
            min_length=1,
            max_length=7,
            json_schema_extra=LIST_SET,
            description="Days on which the window begins: Mon, Tue, Wed, Thu, Fri, Sat, Sun; all if left out.",
        ),
    ] = list(DAYS)
    start: Annotated[
        str,
        Field(alias="from", pattern=f"^{_CLOCK}$", max_length=5, description="Local time at which it begins: 08:00."),
    ]
    end: Annotated[
        str,
        Field(
            alias="to",
            pattern=f"^({_CLOCK}|24:00)$",
            max_length=5,
            description="Local time before which it ends: 18:00; one earlier than `from` lies on the next day.",
        ),
    ]
    time_zone: Annotated[
        TimeZone, Field(description="IANA name of the time zone, such as Europe/Berlin; daylight saving is followed.")
    ] = "UTC"
    max_egress_mbps: Annotated[
        int,
        Field(
            ge=0,
            le=1_000_000,
            description=(
                "Upper limit of outgoing exchange traffic within the window, in Mbit/s. At least 1: a site that may "
                "not send at all holds up the others. To stay away for hours, set `spec.suspend` of the task instead."
            ),
        ),
        Rule(
            "self != 0",
            "0 is not allowed, because a site that may not send holds up the others; to stay away for hours, set "
            "spec.suspend of the task instead",
            lambda mbps: mbps != 0,
        ),
    ]

    def holds(self, at: datetime) -> bool:
        """Whether the window holds at an instant (with any time zone)."""
        local = at.astimezone(ZoneInfo(self.time_zone))
        clock = f"{local:%H:%M}"  # of one width, so it sorts as the times do
        began_today = DAYS[local.weekday()] in self.days
        if self.start < self.end:
            return began_today and self.start <= clock < self.end
        began_yesterday = DAYS[local.weekday() - 1] in self.days
        return (began_today and clock >= self.start) or (began_yesterday and clock < self.end)

    def turns(self, after: datetime) -> Iterator[datetime]:
        """Every instant up to the horizon at which the window may begin or end, and others; in UTC, in no order.

        These are its times on the wall, where the clock shows them twice both, and the changes of the clock.
        """
        zone = ZoneInfo(self.time_zone)
        today = datetime.combine(after.astimezone(zone).date(), time())
        for day in range(-1, HORIZON.days + 2):
            midnight = today + timedelta(days=day)
            for text in (self.start, self.end):
                on_the_wall = midnight + timedelta(hours=int(text[:2]), minutes=int(text[3:]))
                for fold in (0, 1):
                    yield on_the_wall.replace(tzinfo=zone, fold=fold).astimezone(UTC)
            noon = datetime.combine(midnight, time(12), UTC)
            yield from _clock_change(zone, noon, noon + timedelta(days=1))


def _clock_change(zone: ZoneInfo, before: datetime, after: datetime) -> Iterator[datetime]:
    """The first second with another offset from UTC between two instants of whole seconds, if there is one."""
    offset = before.astimezone(zone).utcoffset()
    if after.astimezone(zone).utcoffset() == offset:
        return
    while (seconds := (after - before) // timedelta(seconds=1)) > 1:
        middle = before + timedelta(seconds=seconds // 2)
        if middle.astimezone(zone).utcoffset() == offset:
            before = middle
        else:
            after = middle
    yield after


@dataclass(frozen=True)
class Cap:
    """What a site may send.

    Attributes:
        mbps: in Mbit/s; None for all that the line carries.
        until: when to ask again: the next instant at which it changes, or the horizon if that comes first; None if
            it never changes.
    """

    mbps: float | None
    until: datetime | None


def cap_at(windows: Sequence[EgressWindow], otherwise: float | None, at: datetime) -> Cap:
    """The cap at an instant (with any time zone): that of the first window that holds, or `otherwise`."""

    def mbps(instant: datetime) -> float | None:
        return next((float(window.max_egress_mbps) for window in windows if window.holds(instant)), otherwise)

    if not windows:
        return Cap(otherwise, None)
    now = mbps(at)
    horizon = at.astimezone(UTC) + HORIZON
    turns = sorted({turn for window in windows for turn in window.turns(at) if at < turn < horizon})
    return Cap(now, next((turn for turn in turns if mbps(turn) != now), horizon))
