"""Runs that fail: one line that says why, no set, older sets as they were, the next run free."""

import os
import shutil
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.backups.wiki import GLOBAL, PER_SCHEMA, Wiki, command
from xwiki_stack import proc
from xwiki_stack.backup import producer, site
from xwiki_stack.backup.store import Store
from xwiki_stack.errors import IncompleteError


def failed(wiki: Wiki, code: int, words: str, **changes: Any) -> str:
    """A run fails as every fault of ours should end; gives what it said."""
    before, sets = stored(wiki), wiki.sets()
    result = command(wiki, "run", **changes)
    assert result.code == code, result.err
    assert words in result.err
    told(result.err)
    unharmed(wiki, before, sets)
    silent_about_secrets(wiki, result.out + result.err)
    return result.err


def stored(wiki: Wiki) -> dict[str, bytes]:
    """What lies in the bucket for good, by key: all but the probe and the locks."""
    return {key: (wiki.objects / key).read_bytes() for key in wiki.keys("")
            if not key.startswith(("locks/", "probe/"))}  # fmt: skip


def told(err: str) -> None:
    """One line with the cause and what to do, or what is allowed; and nothing else."""
    (line,) = err.strip().splitlines()
    assert line.startswith("xwiki-stack: ")
    assert "; next: " in line or "; allowed: " in line, line


def unharmed(wiki: Wiki, before: dict[str, bytes], sets: list[str]) -> None:
    """No new set; all that lay there lies there, byte by byte: so nothing was pruned either."""
    assert wiki.sets() == sets
    after = stored(wiki)
    assert {key: after.get(key) for key in before} == before


def silent_about_secrets(wiki: Wiki, said: str) -> None:
    """No secret in what was said, and none in the bucket: records, manifests, keys of objects."""
    everything = [said.encode(), *(key.encode() for key in wiki.keys("")), *stored(wiki).values()]
    for secret in wiki.secrets:
        assert not [text for text in everything if secret.encode() in text]


def programs(wiki: Wiki, script: str) -> str:
    """The client programs with another mysqldump, whose shell script can call the `real` one."""
    folder = wiki.folder / "programs"
    folder.mkdir()
    real = wiki.server.programs
    shutil.copy(real / "mysql", folder / "mysql")
    fake = folder / "mysqldump"
    fake.write_text(
        f'#!/bin/bash\nif [ "$1" = --version ]; then exec {real}/mysqldump --version; fi\n'
        f"real={real}/mysqldump\n{script}\n"
    )
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    return str(folder)


@pytest.mark.fault(11)
@pytest.mark.fault(12)
@pytest.mark.parametrize(
    ("script", "words"),
    [
        ('"$real" "$@" | head -c 9000; kill -9 $$', "mysqldump ended with exit code -9"),
        ('"$real" "$@" | head -c 9000; echo gone >&2; exit 2', "exit code 2: gone"),
        ('"$real" "$@" | head -c 9000', "have no end (`-- Dump completed`)"),
        ("exit 0", "its 0 bytes have no end"),
        ('echo "-- Dump completed"', "its 18 bytes have no end"),
        ('"$real" "$@" | sed "s/^-- Dump completed.*//"', "have no end"),
    ],
)  # fmt: skip
def test_a_dump_that_is_not_whole_makes_no_set(wiki: Wiki, script: str, words: str) -> None:
    failed(wiki, 8, words, database__programs=programs(wiki, script))
    assert wiki.keys("packs/") == [], "no file is copied after a failed dump"


def test_a_failed_run_leaves_a_signed_record_and_status_tells_it(wiki: Wiki) -> None:
    failed(wiki, 8, "have no end", database__programs=programs(wiki, '"$real" "$@" | head -c 700'))
    (record,) = wiki.keys("evidence/")
    assert "/run-" in record
    result = command(wiki, "status")
    assert result.code == 5
    assert "the last site run failed" in result.out
    assert "have no end" in result.out


@pytest.mark.fault(13)
def test_tables_that_change_during_a_dump_are_dumped_again(wiki: Wiki) -> None:
    flag = wiki.folder / "once"
    script = (
        f'if [ ! -e {flag} ]; then touch {flag}; "$real" "$@" | head -c 3000;'
        ' echo "mysqldump: Error 1412: Table definition has changed, please retry transaction'
        ' when dumping table `nasty` at row: 0" >&2; exit 2; fi; exec "$real" "$@"'
    )
    lines: list[str] = []
    made = site.run(wiki.loaded(database__programs=programs(wiki, script)), lines.append).found
    assert any("dumping again" in line for line in lines)
    assert made.manifest.database.key.endswith("db2.sql.zst.age")


@pytest.mark.fault(12)
def test_a_dump_without_a_table_of_the_server_makes_no_set(wiki: Wiki) -> None:
    script = f'exec "$real" "$@" --ignore-table={wiki.schema}.nasty'
    failed(wiki, 8, "lacks 1 tables", database__programs=programs(wiki, script))


@pytest.mark.fault(14)
@pytest.mark.parametrize(
    ("grants", "missing"),
    [
        ({"*.*": "PROCESS, REPLICATION CLIENT, SHOW_ROUTINE", "X": PER_SCHEMA}, "RELOAD on *.*"),
        ({"*.*": GLOBAL.replace("PROCESS, ", ""), "X": PER_SCHEMA}, "PROCESS on *.*"),
        ({"*.*": GLOBAL, "X": "SELECT, SHOW VIEW, EVENT"},
         "TRIGGER on {0}.*, LOCK TABLES on {0}.*"),
    ],
)  # fmt: skip
def test_a_missing_grant_is_named(
    make: Callable[..., Wiki], grants: dict[str, str], missing: str
) -> None:
    wiki = make()
    wiki.create(
        {scope.replace("X", f"`{wiki.schema}`.*"): given for scope, given in grants.items()}
    )
    failed(wiki, 6, f"lacks {missing.format(wiki.schema)}")


@pytest.mark.fault(28)
def test_an_attachment_without_its_file_is_reported_and_makes_no_set(
    wiki: Wiki, monkeypatch: pytest.MonkeyPatch
) -> None:
    wiki.attach("Space1.Page", "lost.png", b"twelve bytes", row_only=True)
    short = wiki.attach("Space1.Page", "short.png", b"1234567890")
    short.write_bytes(b"123")
    said = failed(wiki, 8, "2 of 7 attachments have no file")
    assert "xwiki:Space1.Page / lost.png: no file" in said
    assert "xwiki:Space1.Page / short.png: 3 bytes instead of 10" in said


def test_an_attachment_that_comes_late_is_fetched_again(
    wiki: Wiki, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = wiki.attach("Space1.Page", "late.png", b"late", row_only=True)

    def write(_seconds: float) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"late")

    monkeypatch.setattr(proc, "pause", write)
    made = site.run(wiki.loaded(), lambda _line: None).found.manifest
    assert made.attachments["rows"] == 6


def test_a_link_to_the_current_version_is_followed(wiki: Wiki) -> None:
    path = wiki.attach("Space1.Page", "linked.png", b"old")
    path.rename(path.with_name("fv1.1.png"))
    path.with_name("f.lnk").write_text("fv1.1.png")
    assert site.run(wiki.loaded(), lambda _line: None).found.manifest.attachments["rows"] == 6
    path.with_name("f.lnk").write_text("fv1.2.png")
    with pytest.raises(IncompleteError, match=r"linked\.png: no file"):
        site.run(wiki.loaded(), lambda _line: None)


def test_a_wrong_password_is_one_line(wiki: Wiki) -> None:
    (wiki.folder / "keys" / "backup").write_text("wrong")
    failed(wiki, 3, "Access denied")


@pytest.mark.fault(1)
@pytest.mark.fault(7)
@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"store__bucket": "nowhere"}, 10, "NoSuchBucket"),
        ({"store__endpoint": "http://127.0.0.1:9"}, 10, "Could not connect"),
        ({"keys__recipients": ["age1abc"]}, 2, "is no age public key"),
        ({"keys__trusted": ["A" * 43 + "="]}, 2, "does not hold the public half"),
        ({"files__root": "/nowhere"}, 3, "is no folder that can be read"),
        ({"database__schemas": ["nowhere"]}, 6, "lacks SELECT on nowhere.*"),
        ({"database__port": 9}, 3, "Can't connect to MySQL server"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_said_before_the_work(
    wiki: Wiki, changes: dict[str, object], code: int, words: str
) -> None:
    import time

    began = time.monotonic()
    failed(wiki, code, words, **changes)
    assert time.monotonic() - began < 30
    assert wiki.keys("sets/") == []


def test_a_new_pod_that_is_not_let_out_yet_is_no_failure(wiki: Wiki) -> None:
    """Some network plugins refuse a pod until its rules have landed."""
    wiki.s3.stop()
    landed = threading.Timer(2, wiki.s3.start)
    landed.start()
    try:
        producer.look(wiki.loaded(), Store(wiki.loaded()))
    finally:
        landed.join()


@pytest.mark.fault(6)
@pytest.mark.parametrize(("key", "words"), [
    ("access", "InvalidAccessKeyId"), ("secret", "SignatureDoesNotMatch")
])  # fmt: skip
def test_wrong_credentials_of_the_store_are_told_apart(wiki: Wiki, key: str, words: str) -> None:
    (wiki.folder / "keys" / key).write_text("wrong-one-0123456789")
    failed(wiki, 10, words)


def test_a_file_that_cannot_be_read_makes_no_set(
    wiki: Wiki, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.open

    def refuse(path: Path, *words: object, **options: object) -> object:
        if path.name == "a.jar":
            raise PermissionError(13, os.strerror(13), str(path))
        return real(path, *words, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(IncompleteError, match=r"a\.jar: cannot be read: Permission denied"):
        site.run(wiki.loaded(), lambda _line: None)
    assert wiki.sets() == []
