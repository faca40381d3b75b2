"""Updates that counted, kept as they were signed: whole, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from covey_chain.types import UpdateHeader
from covey_exchange import segments
from covey_exchange.envelope import SiteUpdate
from covey_validator.archive import Archive
from validator_world import OWNERS, TASK_ID, roster, said

PAYLOAD = bytes(range(256)) * 20


@pytest.fixture
def update() -> SiteUpdate:
    root = segments.merkle_root(segments.leaves(PAYLOAD))
    header = UpdateHeader(TASK_ID, 3, 0, OWNERS[1], bytes(32), bytes(32), len(PAYLOAD), root, 7)
    message = said(header)
    return SiteUpdate(message, header, PAYLOAD)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "updates", roster(), len(PAYLOAD))


def test_an_update_comes_back_as_it_was_signed(archive: Archive, update: SiteUpdate):
    archive.put(update)
    archive.put(update)
    found = archive.get(update.digest)
    assert found is not None
    assert (found.digest, found.header, bytes(found.payload)) == (update.digest, update.header, PAYLOAD)


def test_what_was_never_kept_is_not_there(archive: Archive):
    assert archive.get(bytes(32)) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d[:-1],
        lambda d: d[:100],
        lambda d: b"",
        lambda d: d[:-1] + bytes([d[-1] ^ 1]),
        lambda d: b"\xff" * 4 + d[4:],
        lambda d: d[:8] + bytes([d[8] ^ 1]) + d[9:],
    ],
)
def test_what_a_crash_or_a_disk_has_damaged_is_not_used_and_not_kept(
    archive: Archive, update: SiteUpdate, tmp_path: Path, damage: object
):
    archive.put(update)
    (file,) = (tmp_path / "updates").iterdir()
    file.write_bytes(damage(file.read_bytes()))  # type: ignore[operator]
    assert archive.get(update.digest) is None
    assert not list((tmp_path / "updates").iterdir())
