"""An upgrade of the environments in this checkout: what is asked of which, and how it is told."""

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from xwiki_stack import cli, generate, intent, upgrade
from xwiki_stack.errors import DriftError, IntentError, RefusedError
from xwiki_stack.review.report import WIDTH
from xwiki_stack.upgrade import report, writing
from xwiki_stack.upgrade.conditions import opening


def wish(env: str) -> upgrade.Wish:
    """XWiki of an environment is to move."""
    return upgrade.Wish(env, "xwiki", "18.4.5")


def inside(env: str) -> datetime:
    """A moment at which an environment's window has just opened."""
    said = intent.load_environment(env).maintenance_window
    return opening(said, datetime(2026, 11, 26, tzinfo=UTC))[0]


def test_staging_waits_for_its_window_and_for_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writing, "write", lambda *_words: pytest.fail("it was written"))
    closed = upgrade.plan(wish("staging"), datetime(2026, 11, 26, tzinfo=UTC))
    assert [condition.name for condition in closed.blocked] == ["window"]
    assert "opens Sat 2026-11-28 02:00" in closed.blocked[0].words
    with pytest.raises(RefusedError, match="staging: does not hold: window; nothing was written"):
        upgrade.write(closed)
    open_ = upgrade.plan(wish("staging"), inside("staging"))
    assert open_.blocked == []
    asked = {condition.name: condition.required for condition in open_.conditions}
    assert asked == {"one program": True, "window": True, "set": False}


def test_of_the_local_wiki_nothing_is_asked() -> None:
    made = upgrade.plan(wish("local"))
    assert made.blocked == []
    assert [condition.name for condition in made.conditions if condition.required] == [
        "one program"
    ]


def test_the_pause_is_bounded_by_the_pods_own_probes() -> None:
    made = upgrade.plan(wish("staging"), inside("staging"))
    (pause,) = made.downtime
    assert made.review
    after = made.review.sections[0].comparison.new
    (wiki,) = [item for item in after if item["kind"] == "Deployment"]
    spec = wiki["spec"]["template"]["spec"]
    probe = spec["containers"][0]["startupProbe"]
    assert pause.stop == spec["terminationGracePeriodSeconds"]
    assert pause.start == probe["periodSeconds"] * probe["failureThreshold"]
    assert made.seconds == pause.stop + pause.start
    assert (pause.tried, pause.drill) == (0, "")


def test_the_text_tells_all_of_it_and_fits_a_terminal() -> None:
    made = upgrade.plan(wish("staging"), datetime(2026, 11, 26, tzinfo=UTC))
    text = report.text(made)
    own, _, changes = text.partition("what changes")
    lines = own.splitlines()
    assert lines[0] == "XWiki 17.10.13 -> 18.4.5 in staging"
    assert max(map(len, lines)) <= WIDTH
    flat = " ".join(own.split())
    for condition in made.conditions:
        assert condition.words in flat
        assert (condition.next in flat) == condition.blocks or not condition.next
    assert all(sentence in flat for sentence in made.back)
    assert "NO window" in flat
    assert "not asked set" in flat
    assert "image docker.io/library/xwiki" in changes
    assert json.loads(report.json_text(made))["ready"] is False


def test_values_that_the_intent_does_not_give_are_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(generate.GENERATED, tmp_path / "generated")
    monkeypatch.setattr(generate, "GENERATED", tmp_path / "generated")
    path = generate.path_of("local")
    path.write_text(path.read_text().replace("17.10.13-mysql", "17.10.12-mysql"))
    with pytest.raises(DriftError, match="the values of local are not what its intent gives"):
        upgrade.plan(wish("local"))
    assert cli.main(["upgrade", "--env", "local", "--xwiki", "18.4.5"]) == 7
    assert capsys.readouterr().out == ""


def test_nothing_to_do_is_said_and_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    here = intent.load_environment("local")
    for words in (["--xwiki", here.xwiki], ["--mysql", here.mysql], ["--to-ref", "HEAD"],
                  ["--mysql", intent.MYSQL_LINES[here.mysql], "--write"]):  # fmt: skip
        assert cli.main(["upgrade", "--env", "local", *words]) == 0
        assert capsys.readouterr().out == "nothing to do: that is the version of local already\n"


def test_a_commit_that_moves_it_is_not_written_again() -> None:
    made = upgrade.plan(wish("local"))
    with pytest.raises(IntentError, match="bump is written already; next: leave --write out"):
        upgrade.write(replace(made, wish=upgrade.Wish("local", ref="bump")))
