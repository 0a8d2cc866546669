"""Long work says how far it is, and short work nothing."""

import pytest

from xwiki_stack.backup.progress import Progress


def test_it_speaks_each_few_seconds_of_what_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("xwiki_stack.backup.progress.time.monotonic", lambda: now[0])
    said: list[str] = []
    known, unknown = Progress("files", said.append, 4 * 2**20), Progress("sent", said.append)
    for _ in range(3):
        now[0] += 2
        known.add(2**20)
        unknown.add(2**20)
    assert said == ["files: 3.0 MiB of 4.0 MiB, 512.0 KiB/s", "sent: 3.0 MiB, 512.0 KiB/s"]
    assert known.done == 3 * 2**20


def test_short_work_says_nothing() -> None:
    said: list[str] = []
    Progress("files", said.append).add(2**30)
    assert said == []
