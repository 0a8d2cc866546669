"""Which versions may follow which, and when: rules on made-up sets, records, clocks and values."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from xwiki_stack import generate, intent
from xwiki_stack.backup import evidence
from xwiki_stack.backup.manifest import Artefact, Found, Listing, Site
from xwiki_stack.cluster import registry
from xwiki_stack.errors import IntentError, RefusedError
from xwiki_stack.review.verdicts import Image
from xwiki_stack.upgrade import conditions, versions, writing
from xwiki_stack.upgrade.conditions import Bucket, Condition
from xwiki_stack.upgrade.versions import Move

NOW = datetime(2026, 11, 28, 2, 30, tzinfo=UTC)
"""A Saturday, inside the window of staging."""

XWIKI = "docker.io/library/xwiki"
ONE, OTHER = "sha256:" + "1" * 64, "sha256:" + "2" * 64


def move(key: str, old: str, new: str, digest: str = "") -> Move:
    tag = f"{new}-mysql-tomcat" if key == "xwiki" else new
    return Move(key, old, new, Image(f"docker.io/library/{key}", tag, digest))


@pytest.mark.parametrize(
    ("key", "old", "new"),
    [
        ("mysql", "8.4.10", "9.7.1"),
        ("mysql", "9.7.1", "9.7.4"),
        ("mysql", "9.7.4", "26.4.0"),
        ("xwiki", "17.10.12", "17.10.13"),
        ("xwiki", "17.10.13", "18.4.5"),
        ("xwiki", "17.10.13", "18.10.1"),
        ("xwiki", "18.10.3", "19.4.2"),
    ],
)
def test_the_next_lts_line_and_all_before_it_can_be_reached(key: str, old: str, new: str) -> None:
    versions.refuse(move(key, old, new), "prod")


@pytest.mark.parametrize(
    ("key", "old", "new", "words"),
    [
        ("mysql", "9.7.1", "8.4.10", "MySQL would go back, 9.7.1 -> 8.4.10, and its data does not"),
        ("mysql", "9.7.4", "9.7.1", "would go back"),
        ("xwiki", "18.4.5", "17.10.13", "restore a set that XWiki 17.10.13 made"),
        ("xwiki", "17.10.13", "17.10.12", "would go back"),
        ("xwiki", "17.10.13", "19.4.0", "passes over LTS line 18.10; .*--xwiki 18.10.N"),
        ("xwiki", "18.4.5", "19.1.0", "passes over LTS line 18.10"),
        ("xwiki", "17.10.13", "20.1.0", "passes over LTS line 18.10, 19.10; .*--xwiki 18.10.N"),
        ("mysql", "8.4.10", "26.4.0", "passes over LTS line 9.7; .*--mysql 9.7`"),
    ],
)
def test_a_way_back_or_past_an_lts_line_is_refused(
    key: str, old: str, new: str, words: str
) -> None:
    with pytest.raises(RefusedError, match=words):
        versions.refuse(move(key, old, new), "prod")


def test_a_line_between_counts_once_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule, not the two lines of today."""
    far = move("mysql", "9.7.1", "30.4.0")
    versions.refuse(far, "prod")
    monkeypatch.setattr(intent, "MYSQL_LINES", {**intent.MYSQL_LINES, "28.4": "28.4.2"})
    with pytest.raises(RefusedError, match=r"passes over LTS line 28\.4"):
        versions.refuse(far, "prod")


def test_what_moves_is_read_in_the_values() -> None:
    def values(xwiki: str, mysql: str) -> dict[str, Any]:
        tags = {"xwiki": xwiki, "mysql": mysql}
        return {key: {"image": {"repository": key, "tag": tag}} for key, tag in tags.items()}

    old = versions.images_of(values("17.10.13-mysql-tomcat", f"9.7.1@{ONE}"), "here")
    same = versions.images_of(values(f"17.10.13-mysql-tomcat@{ONE}", f"9.7.1@{OTHER}"), "here")
    assert list(versions.moves(old, same)) == [], "another build of a release is no upgrade"
    new = versions.images_of(values(f"18.4.5-mysql-tomcat@{ONE}", "9.7.1"), "here")
    (found,) = versions.moves(old, new)
    assert found.words == "XWiki 17.10.13 -> 18.4.5"
    assert found.image.digest == ONE
    for tag in ("latest", "stable-mysql-tomcat", "", "18"):
        with pytest.raises(IntentError, match=r"here: xwiki\.image\.tag: no version"):
            versions.images_of(values(tag, "9.7.1"), "here")


@pytest.mark.parametrize(
    ("said", "at", "opens", "hours"),
    [
        ("Sat 02:00-04:00", "2026-11-28 02:00", "2026-11-28 02:00", 2),
        ("Sat 02:00-04:00", "2026-11-28 03:59", "2026-11-28 02:00", 2),
        ("Sat 02:00-04:00", "2026-11-28 04:00", "2026-12-05 02:00", 2),
        ("Sat 02:00-04:00", "2026-11-28 01:59", "2026-11-28 02:00", 2),
        ("Sat 02:00-04:00", "2026-11-29 03:00", "2026-12-05 02:00", 2),
        ("Sat 23:00-01:30", "2026-11-29 01:00", "2026-11-28 23:00", 2.5),
        ("Sun 23:00-01:30", "2026-11-29 01:00", "2026-11-29 23:00", 2.5),
    ],
)
def test_a_window_is_open_or_the_next_one_is_named(
    said: str, at: str, opens: str, hours: float
) -> None:
    begin, end = conditions.opening(said, datetime.fromisoformat(at))
    assert f"{begin:%Y-%m-%d %H:%M}" == opens
    assert end - begin == timedelta(hours=hours)


@pytest.mark.parametrize(
    ("said", "seconds", "met", "words"),
    [
        ("Sat 02:00-04:00", 90 * 60, True, "is open, 90 min 00 s left"),
        ("Sat 02:00-04:00", 90 * 60 + 1, False, "is open, 90 min 00 s left"),
        ("Sun 02:00-04:00", 60, False, "is closed, opens Sun 2026-11-29 02:00"),
        ("undecided", 60, False, "no maintenance window is decided"),
    ],
)
def test_the_restarts_must_fit_what_is_left_of_the_window(
    said: str, seconds: int, met: bool, words: str
) -> None:
    found = conditions.window(said, NOW, seconds, required=True)
    assert (found.met, found.blocks) == (met, not met)
    assert words in found.words
    assert met or found.next
    assert not conditions.window(said, NOW, seconds, required=False).blocks


def made(age: timedelta, server: str = "9.7.1") -> Found[Site]:
    """A set of that age."""
    name = f"{NOW - age:%Y%m%dT%H%M%SZ}-00000000"
    part = Artefact("x", 1, "0", 1, "0")
    manifest = Site(
        id=name, environment="prod", snapshot="", tool="", server=server, mysqldump=server,
        position={}, schemas=[], tables={}, database=part, index=part, packs=[], generation={},
        files={}, attachments={}, producers={}, recipients=[],
    )  # fmt: skip
    return Found(manifest, f"hash of {name}")


def record(
    found: Found[Site], kind: str, *, held: bool = True, manifest: str = "", **facts: Any
) -> evidence.Record:
    words = "" if held else "the login failed"
    return evidence.Record(
        found.manifest.id, manifest or found.sha256, kind, held, facts.pop("at", "2026"), 1, 1,
        words, facts=facts,
    )  # fmt: skip


MINUTE = timedelta(minutes=1)
YOUNG, OLD = made(20 * MINUTE), made(61 * MINUTE)
FROM_84 = made(20 * MINUTE, server="8.4.10")


@pytest.mark.parametrize(
    ("sets", "records", "met", "words"),
    [
        ([], [], False, "none of 0 sets is proven opened"),
        ([YOUNG], [], False, "none of 1 sets"),
        ([YOUNG], [record(YOUNG, evidence.INTACT)], False, "none of 1 sets"),
        ([YOUNG], [record(YOUNG, evidence.OPENED)], True, "20 min 00 s old, by MySQL 9.7.1"),
        ([YOUNG], [record(YOUNG, evidence.OPENED, held=False)], False, "none of 1 sets"),
        ([YOUNG], [record(YOUNG, evidence.OPENED, manifest="another")], False, "none of 1 sets"),
        ([YOUNG], [record(YOUNG, evidence.OPENED), record(YOUNG, evidence.INTACT, held=False)],
         False, "none of 1 sets"),
        ([OLD], [record(OLD, evidence.OPENED)], False, "more than 1 h"),
        ([OLD, YOUNG], [record(OLD, evidence.OPENED)], False, "more than 1 h"),
        ([FROM_84], [record(FROM_84, evidence.OPENED)], False, "does not go into MySQL 9.7.1"),
    ],
)  # fmt: skip
def test_the_way_back_is_an_opened_young_set_of_the_server_that_runs(
    sets: list[Found[Site]], records: list[evidence.Record], met: bool, words: str
) -> None:
    held = Bucket(Listing(sets), records, NOW)
    found = conditions.way_back(held, "9.7.1", 1, required=True)
    assert words in found.words
    assert (found.met, bool(found.next)) == (met, not met)
    if found.words.endswith("would be lost"):
        assert conditions.way_back(held, "9.7.1", 2, required=True).met


@pytest.fixture
def staging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Committed values of staging, with XWiki 18.4.5."""
    monkeypatch.setattr(generate, "GENERATED", tmp_path)
    values = {
        "xwiki": {"image": {"repository": XWIKI, "tag": "18.4.5-mysql-tomcat"}},
        "mysql": {"image": {"repository": "docker.io/library/mysql", "tag": "9.7.1"}},
    }
    (tmp_path / "staging").mkdir()
    (tmp_path / "staging" / "xwiki-stack.yaml").write_text(yaml.safe_dump(values))
    return tmp_path / "staging" / "xwiki-stack.yaml"


def rehearsed(drills: Sequence[evidence.Record], digest: str = "") -> Condition:
    going = move("xwiki", "17.10.13", "18.4.5", digest)
    images = {"xwiki": going.image, "mysql": Image("docker.io/library/mysql", "9.7.1", "")}
    return conditions.rehearsal(images, going, ["staging"], drills)


def drill(*, at: str, held: bool = True, xwiki: str = "18.4.5", **facts: Any) -> evidence.Record:
    versions = {"xwiki": xwiki, "mysql": "9.7.1"}
    return record(YOUNG, evidence.DRILL, held=held, at=at, versions=versions, **facts)


def test_staging_is_green_with_the_very_image_and_a_drill_that_held(staging: Path) -> None:
    good = rehearsed([drill(at="2026-11-27T01:00:00Z")])
    assert good.met
    assert "a drill with XWiki 18.4.5 and MySQL 9.7.1 held at 2026-11-27T01:00:00Z" in good.words
    assert "by its tag, no digest says so" in good.words
    for drills, words in (
        ([], "no drill has tried XWiki 18.4.5 and MySQL 9.7.1"),
        ([drill(at="1", xwiki="17.10.13")], "no drill has tried"),
        ([record(YOUNG, evidence.DRILL)], "no drill has tried"),
        ([drill(at="2", held=False), drill(at="1")], "failed: the login failed"),
    ):
        found = rehearsed(drills)
        assert words in found.words
        assert found.blocks
        assert found.next
    assert rehearsed([drill(at="1", held=False), drill(at="2")]).met, "the newest word counts"


def test_another_image_in_staging_is_no_rehearsal(staging: Path) -> None:
    drills, text = [drill(at="1")], staging.read_text()
    staging.write_text(text.replace("18.4.5", "18.4.4"))
    found = rehearsed(drills)
    assert found.blocks
    assert "staging has 18.4.4-mysql-tomcat" in found.words
    staging.write_text(text.replace("18.4.5-mysql-tomcat", f"18.4.5-mysql-tomcat@{ONE}"))
    assert rehearsed(drills, digest=ONE).met
    assert "no digest" not in rehearsed(drills, digest=ONE).words
    assert rehearsed(drills, digest=OTHER).blocks
    staging.unlink()
    assert "no committed values" in rehearsed(drills).words
    going = move("xwiki", "17.10.13", "18.4.5")
    assert "there is none" in conditions.rehearsal({}, going, [], drills).words


def test_two_programs_at_once_are_not_moved() -> None:
    both = [move("xwiki", "17.10.13", "18.4.5"), move("mysql", "8.4.10", "9.7.1")]
    assert conditions.alone(both[:1]).met
    assert conditions.alone(both).blocks
    assert "and MySQL 8.4.10 -> 9.7.1" in conditions.alone(both).words


INTENT = """# The wiki.
cluster: main
xwiki: 17.10.13              # as asked
mysql: "8.4"                 # decision 1
images:
  xwiki: sha256:aa
"""


def test_a_version_is_written_and_all_else_stays() -> None:
    after = writing.with_version(INTENT, "xwiki", "18.4.5", "here")
    assert after == INTENT.replace("xwiki: 17.10.13 ", "xwiki: 18.4.5 ")
    after = writing.with_version(INTENT, "mysql", "9.7", "here")
    assert after == INTENT.replace('"8.4"', '"9.7"')
    bare = INTENT.replace('"8.4"', "8.4")
    assert yaml.safe_load(writing.with_version(bare, "mysql", "9.7", "here"))["mysql"] == "9.7"


def test_a_reason_stands_above_the_version_until_the_next_upgrade() -> None:
    note = f"{writing.FORCED}2026-11-28 without set: the store is gone"
    forced = writing.with_version(INTENT, "xwiki", "18.4.5", "here", note)
    lines = forced.splitlines()
    assert lines[2:4] == [note, "xwiki: 18.4.5              # as asked"]
    again = writing.with_version(forced, "xwiki", "18.4.6", "here", note.replace("28", "30"))
    assert again.splitlines()[2:4] == [
        note.replace("28", "30"), "xwiki: 18.4.6              # as asked",
    ]  # fmt: skip
    plain = writing.with_version(again, "xwiki", "18.4.7", "here")
    assert plain == INTENT.replace("17.10.13", "18.4.7")


@pytest.mark.parametrize("text", ["{xwiki: 17.10.13}\n", "xwiki:\n  17.10.13\n", "a: 1\n"])
def test_a_form_that_cannot_be_kept_is_told(text: str) -> None:
    with pytest.raises(IntentError, match=r"here: xwiki: its form cannot be kept.* 18\.4\.5"):
        writing.with_version(text, "xwiki", "18.4.5", "here")


def test_a_reason_fits_on_its_line(tmp_path: Path) -> None:
    environment = of_its_own(tmp_path)
    going = move("xwiki", "17.10.13", "18.4.5", ONE)
    with pytest.raises(IntentError, match="the reason has 101 characters; allowed: 100"):
        writing.write(environment, going, "x" * 101, "set")
    assert environment.path.read_text() == INTENT


def test_what_follows_fails_and_the_intent_is_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = of_its_own(tmp_path)
    seen: list[str] = []

    def full(names: Sequence[str]) -> None:
        seen.append(environment.path.read_text())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(generate, "generate", full)
    with pytest.raises(OSError, match="No space left"):
        writing.write(environment, move("xwiki", "17.10.13", "18.4.5", ONE), "", "")
    assert "xwiki: 18.4.5              # as asked\nmysql" in seen[0]
    assert f"  xwiki: {ONE}\n" in seen[0]
    assert environment.path.read_text() == INTENT


def test_a_pin_is_asked_of_the_registry_where_one_is_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = of_its_own(tmp_path)
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(registry, "digest_of", lambda *image: asked.append(image) or OTHER)
    monkeypatch.setattr(generate, "generate", lambda _names: generate.Outcome([], [], []))
    writing.write(environment, move("xwiki", "17.10.13", "18.4.5"), "", "")
    assert asked == [(XWIKI, "18.4.5-mysql-tomcat")]
    assert f"  xwiki: {OTHER}\n" in environment.path.read_text()
    writing.write(environment, move("mysql", "8.4.10", "9.7.1"), "", "")
    assert len(asked) == 1, "MySQL is not pinned in this intent"
    assert yaml.safe_load(environment.path.read_text())["mysql"] == "9.7"


def of_its_own(folder: Path) -> intent.Environment:
    """An environment whose intent is a file that may be written, with XWiki pinned."""
    path = folder / "prod.yaml"
    path.write_text(INTENT)
    return replace(intent.load_environment("staging"), path=path, digests={"xwiki": "sha256:aa"})
