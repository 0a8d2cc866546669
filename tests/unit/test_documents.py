"""Documents point at things that exist, and name no more than there is."""

import re
from pathlib import Path

import pytest

from xwiki_stack import cli, repo

LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


def documents() -> list[Path]:
    hidden = {".venv", ".git"}
    found = [
        path for path in sorted(repo.ROOT.rglob("*.md")) if not hidden.intersection(path.parts)
    ]
    assert len(found) > 10, "the sweep looked at too little"
    return found


def dead_links(document: Path, text: str) -> list[str]:
    """Relative links of a document that lead nowhere."""
    prose = re.sub(r"`[^`]*`", "", text)  # a pattern in code may look like a link
    targets = [link for link in LINK.findall(prose) if "://" not in link]
    return [link for link in targets if not (document.parent / link).exists()]


@pytest.mark.parametrize("document", documents(), ids=lambda p: str(p.relative_to(repo.ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    assert dead_links(document, document.read_text()) == []


def test_a_dead_link_is_noticed() -> None:
    readme = repo.ROOT / "README.md"
    assert dead_links(readme, "[a](docs/no-such.md) [b](Makefile) [c](https://x.org)") == [
        "docs/no-such.md"
    ]


def test_every_decision_is_in_the_index_and_exists() -> None:
    folder = repo.ROOT / "docs" / "decisions"
    pages = {path.name for path in folder.glob("0*.md")}
    indexed = set(LINK.findall((folder / "README.md").read_text()))
    assert pages
    assert pages == indexed


def test_every_make_target_is_in_the_readme_and_has_help() -> None:
    makefile = (repo.ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.M)) - {"help", "setup"}
    helped = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.M)) - {"help"}
    readme = (repo.ROOT / "README.md").read_text()
    assert len(targets) >= 6
    assert targets == helped
    assert {name for name in targets if f"make {name}" not in readme} == set()


def test_every_verb_teaches_in_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    verbs = re.findall(r"^    ([a-z-]+)(?: +\S|$)", capsys.readouterr().out, re.M)
    assert len(verbs) >= 12
    for verb in verbs:
        with pytest.raises(SystemExit) as ended:
            cli.main([verb, "--help"])
        assert ended.value.code == 0
        assert len(capsys.readouterr().out.splitlines()) >= 5
