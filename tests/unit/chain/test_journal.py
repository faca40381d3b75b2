import json
from pathlib import Path

import pytest
from covey_chain.journal import Journal, Sent

SENT = Sent({"nonce": 3, "to": "0x" + "11" * 20, "data": "0x", "value": 10**18}, ("0x" + "22" * 32,), 17.5, "0x02")


def test_what_is_put_is_there_after_a_restart(tmp_path: Path) -> None:
    Journal(tmp_path / "journal.json").put("publish:0x01", SENT)
    found = Journal(tmp_path / "journal.json")
    assert found.get("publish:0x01") == SENT
    assert found.all() == {"publish:0x01": SENT}
    assert SENT.nonce == 3


def test_a_journal_of_an_older_version_is_read(tmp_path: Path) -> None:
    entry = {"transaction": SENT.transaction, "hashes": list(SENT.hashes), "sent_at": 17.5}
    (tmp_path / "journal.json").write_text(json.dumps({"a": entry}))
    found = Journal(tmp_path / "journal.json").get("a")
    assert found is not None
    assert (found.nonce, found.hashes, found.raw) == (3, SENT.hashes, "0x")


def test_what_is_forgotten_is_gone_after_a_restart(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.json")
    journal.put("a", SENT)
    journal.put("b", SENT)
    journal.forget("a")
    journal.forget("never put")
    assert Journal(tmp_path / "journal.json").all() == {"b": SENT}


def test_a_failed_write_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal.json"
    Journal(path).put("a", SENT)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("covey_chain.journal.os.fsync", full)
    journal = Journal(path)
    with pytest.raises(OSError, match="No space"):
        journal.put("b", SENT)
    assert Journal(path).all() == {"a": SENT}


def test_without_a_path_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    journal = Journal()
    journal.put("a", SENT)
    assert journal.get("a") == SENT
    assert list(tmp_path.iterdir()) == []
