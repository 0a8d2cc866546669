"""A review as text, Markdown and JSON: complete, readable, and of the form that is documented."""

import json
from importlib.resources import files
from typing import Any

import jsonschema
import pytest

from tests.review.test_verdicts import CASES, cases
from xwiki_stack import cli, review
from xwiki_stack.errors import AttentionError
from xwiki_stack.review import changes, report, verdicts
from xwiki_stack.review.sources import End


def config(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def reviewed(*pairs: tuple[str, list[Any], list[Any]]) -> review.Review:
    sections: list[review.Section] = []
    same: list[str] = []
    for name, old, new in pairs:
        review._add(changes.compare(name, f"wiki-{name}", old, new), sections, same)
    ends = (End("a" * 40, "aaaaaaa (old)"), End("", "the working tree"))
    return review.Review(*ends, tuple(sections), tuple(same))


def everything() -> review.Review:
    """Every case of every rule, each an environment of its own."""
    return reviewed(*((f"{case.rule}-{case.name}", case.old, case.new) for case in cases()))


def test_text_names_every_verdict_and_every_field() -> None:
    found = everything()
    assert len(found.sections) > 40
    text = report.text(found)
    flat = " ".join(text.split())
    for section in found.sections:
        for verdict in section.verdicts:
            assert " ".join(verdict.finding.text.split()) in flat
        for item in section.comparison.shown:
            assert all(change.path in text for change in item.changes)


def test_lines_of_verdicts_fit_a_terminal() -> None:
    lines = report.text(everything()).splitlines()
    head = [line for line in lines if line.startswith("             ")]
    assert len(head) > 40
    assert max(map(len, head)) <= report.WIDTH


def test_environments_that_differ_alike_are_told_once() -> None:
    old, new = [config("a", k="1")], [config("a", k="2")]
    found = reviewed(("local", old, new), ("staging", old, new), ("prod", old, old))
    (section,) = found.sections
    assert section.names == ("local", "staging")
    assert found.same == ("prod",)
    text = report.text(found)
    assert text.count("data.k") == 1
    assert "prod: nothing that is rendered differs" in text


def test_environments_that_differ_otherwise_are_not() -> None:
    old = [config("a", k="1")]
    found = reviewed(("local", old, [config("a", k="2")]), ("staging", old, [config("a", k="3")]))
    assert [section.names for section in found.sections] == [("local",), ("staging",)]


def test_a_text_of_many_lines_is_shown_by_its_lines() -> None:
    old = config("a", conf="one\ntwo\nthree\nfour\nfive\n")
    new = config("a", conf="one\ntwo\nthree\n4\nfive\n")
    text = report.text(reviewed(("local", [old], [new])))
    assert "-four" in text
    assert "+4" in text
    assert "one" not in text


def test_a_text_of_many_lines_that_comes_is_shown_by_its_lines_too() -> None:
    new = config("a", conf="one\ntwo\n")
    found = reviewed(("local", [config("a")], [new]), ("staging", [], [new]))
    assert "          +one\n          +two\n" in report.text(found)
    assert "+   conf: |\n+     one\n+     two\n" in report.markdown(found)


def test_values_of_a_secret_appear_nowhere() -> None:
    def secret(value: str) -> dict[str, Any]:
        return {"kind": "Secret", "metadata": {"name": "s"}, "stringData": {"key": value}}

    pairs = [("a", [secret("hunter2")], [secret("swordfish")]), ("b", [], [secret("swordfish")])]
    found = reviewed(*pairs)
    for form in (report.text, report.markdown, report.json_text):
        assert "stringData" in form(found) or form is report.text
        assert "hunter2" not in form(found)
        assert "swordfish" not in form(found)


def test_where_a_file_was_read_is_a_note_of_ours_and_shown_nowhere() -> None:
    def noted(file: str, **more: str) -> dict[str, Any]:
        item = config("a", k="1")
        return {**item, "metadata": {"name": "a", "annotations": {changes.FILE: file, **more}}}

    for old, new in (
        ([], [noted("x")]),
        ([noted("x")], []),
        ([noted("x")], [noted("y", note="2")]),
    ):
        found = reviewed(("flux", old, new))
        for text in (report.text(found), report.markdown(found), report.json_text(found)):
            assert changes.FILE not in text
            assert "ConfigMap" in text
    assert "note" in report.markdown(found)
    assert reviewed(("flux", [noted("x")], [noted("y")])).same == ("flux",)


def test_markdown_begins_with_the_summary_and_folds_the_fields() -> None:
    (case,) = [case for case in cases() if case.name == "mysql-to-another-line"]
    text = report.markdown(reviewed(("staging", case.old, case.new)))
    head = (
        "## What this changes\n\n**2 need a human.** From `aaaaaaa` (old) to the working tree.\n\n"
    )
    assert text.startswith(f"{head}| where |")
    assert "| staging | 1 changed | **yes**: 1 outage, 1 upgrade |" in text
    assert "| **upgrade** | StatefulSet `database` |" in text
    assert text.index("<details>") > text.index("**upgrade**")
    assert "\n- spec.template.spec.containers[mysql].image: " in text


def test_markdown_fits_a_comment_and_keeps_its_tables_whole() -> None:
    big = config("a", conf="\n".join(f"line {number} | x" for number in range(20_000)))
    service = {"kind": "Service", "metadata": {"name": "b|c"}, "spec": {}}
    text = report.markdown(reviewed(("local", [], [big]), ("staging", [service], [])))
    assert len(text) < 65_536
    assert "cut; `xwiki-stack review` shows all of it" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 7
    assert {line.count("|") for line in rows} == {4}
    assert text.count("~" * 8) == 4


def test_json_has_the_form_that_is_documented() -> None:
    schema = json.loads(files("xwiki_stack.review").joinpath("report.schema.json").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    found = everything()
    document = json.loads(report.json_text(found))
    jsonschema.validate(document, schema)
    assert document["needsHuman"] == found.humans > 20
    assert {item["rule"] for part in document["sections"] for item in part["verdicts"]} == set(
        verdicts.RULES
    )
    document["sections"][0]["verdicts"][0]["weight"] = "heavy"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema)


def test_the_reference_lists_every_rule_and_weight() -> None:
    page = (CASES.parents[2] / "docs" / "reference" / "review.md").read_text()
    for rule in verdicts.RULES:
        assert f"`{rule}`" in page, rule
    for weight in verdicts.Weight:
        assert f"| `{weight.value}` |" in page, weight


@pytest.mark.parametrize(("name", "code"), [("mysql-to-another-line", 20), ("one-port-more", 0)])
def test_the_exit_code_says_whether_somebody_must_look(
    name: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    case = next(item for item in cases() if item.name == name and item.rule != "flow")
    found = reviewed(("staging", case.old, case.new))
    monkeypatch.setattr(cli, "review", lambda *_words: found)
    assert cli.main(["review", "--format", "json"]) == code
    said = capsys.readouterr()
    assert json.loads(said.out)["needsHuman"] == (2 if code else 0)
    assert len(said.err.splitlines()) == (1 if code else 0)
    assert AttentionError.exit_code == 20
