"""Runbooks say nothing that cannot be done: blocks parse, every word of the command exists."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from xwiki_stack import cli, proc, repo
from xwiki_stack.errors import IntentError, StackError
from xwiki_stack.runbook import FOLDER, NOT_HERE, Block, Runbook, blocks

COMMAND = re.compile(r"xwiki-stack ((?:[a-z]|\"?\$\w)[^`|;&\n]*)")

PAGES = sorted(FOLDER.glob("*.md"))

INLINE = re.compile(r"`([^`\n]+)`")


def of(language: str, page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.language == language]


def commands(page: Path) -> list[str]:
    """Every call of ours on a page, in blocks and in prose."""
    texts = [block.text for block in of("sh", page)]
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    joined = [text.replace("\\\n", " ") for text in texts] + INLINE.findall(prose)
    return [found.strip() for text in joined for found in COMMAND.findall(text)]


def complaint(words: str) -> str:
    """What our parser has against a call; '' if nothing. `...` and variables stand for a value."""
    line = re.sub(r"#.*", "", words).replace("...", "")
    try:
        cli.parse(shlex.split(line))
    except IntentError as error:
        # A verb alone, as prose names it, lacks what it needs; that is no mistake.
        return "" if "are required" in error.what else error.what
    except SystemExit as ended:
        return "" if ended.code == 0 else f"exit {ended.code}"
    return ""


def test_there_is_an_index_of_all_pages() -> None:
    index = (FOLDER / "README.md").read_text()
    assert len(PAGES) >= 4
    assert [p.name for p in PAGES if p.name != "README.md" and f"]({p.name})" not in index] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_shell_block_parses(page: Path) -> None:
    for block in of("sh", page):
        said = proc.run(["bash", "-n"], stdin=block.text, check=False)
        assert said.code == 0, f"{page.name}:{block.line}: {said.err}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_manifest_parses(page: Path) -> None:
    for block in of("yaml", page):
        assert all(isinstance(item, dict) for item in yaml.safe_load_all(block.text)), block.line


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_verb_and_flag_exists(page: Path) -> None:
    assert {c: complaint(c) for c in commands(page) if complaint(c)} == {}


def test_every_job_that_is_made_has_a_name() -> None:
    """kubectl makes none without it."""
    texts = [page.read_text() for page in [*PAGES, *(repo.ROOT / "charts").rglob("README.md")]]
    made = re.compile(r"kubectl [^`\n]*?create job ([^`\n]*)")
    said = [words for text in texts for words in made.findall(text)]
    assert len(said) >= 10
    assert [words for words in said if not re.sub(r"--\S+|\\$", "", words).split()] == []


def test_the_sweep_looks_at_something() -> None:
    assert len([c for page in PAGES for c in commands(page)]) >= 8
    assert len([b for page in PAGES for b in of("sh", page)]) >= 15


@pytest.mark.parametrize(
    "words",
    ["backup restor --config x", "backup list --confg x", "backup verify --opend", "backups list"],
)
def test_a_verb_or_flag_that_is_none_is_noticed(words: str) -> None:
    assert complaint(words)


def unsaid(page: Path) -> list[str]:
    """Headings of blocks that are not executed without a word of it in their section's prose.

    What stands above the first section of a page is said of all of it.
    """
    prose = re.sub(r"^```.*?^```", "", page.read_text().lower(), flags=re.M | re.S)
    head, *rest = re.split(r"^##+ ", prose, flags=re.M)
    if NOT_HERE in head:
        return []
    told = {text.partition("\n")[0].strip() for text in rest if NOT_HERE in text}
    left = [block.heading for block in of("sh", page) if not block.executed]
    return [heading for heading in left if heading.lower() not in told]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_what_is_not_executed_says_so_in_its_section(page: Path) -> None:
    """A fence is invisible on the rendered page."""
    assert unsaid(page) == []


def test_what_another_section_says_is_not_enough(tmp_path: Path) -> None:
    fence = "```sh not executed here\nfalse\n```"
    page = page_of(
        tmp_path, "## 1. One", f"Not executed here.\n{fence}", "## 2. Two", f"Text.\n{fence}"
    ).page
    assert unsaid(page) == ["2. Two"]
    assert len([b for p in PAGES for b in of("sh", p) if not b.executed]) >= 7


def page_of(folder: Path, *texts: str) -> Runbook:
    path = folder / "page.md"
    path.write_text("# A page\n" + "\n".join(texts))
    return Runbook(path, {"GIVEN": "by the environment"})


VARIABLES = '```sh\nexport GIVEN="${GIVEN:-x}" MADE="${MADE:-edited}"\n```\n'


def test_blocks_run_in_order_each_with_the_variables(tmp_path: Path) -> None:
    book = page_of(
        tmp_path, VARIABLES, "## 1. One\n```sh\necho $GIVEN, $MADE\nLOST=1\n```",
        "```yaml\na: 1\n```", "```sh not executed here\nfalse\n```",
        "## 2. Two\n```sh\necho ${LOST:-nothing is carried on} >&2\n```",
    )  # fmt: skip
    headings: list[str] = []
    assert book.run_all(headings.append) == "by the environment, edited\nnothing is carried on\n"
    assert headings == ["1. One", "2. Two"]
    assert [block.line for block in book.steps] == [8, 19]
    with pytest.raises(IntentError, match=r"no block below '3\."):
        book.of("3.")


@pytest.mark.parametrize(
    "text", ["false\necho on", "false | cat\necho on", "echo $NOT_SET\necho on"]
)
def test_a_block_ends_at_its_first_failure_with_all_it_said(tmp_path: Path, text: str) -> None:
    book = page_of(tmp_path, VARIABLES, f"## 1. One\n```sh\necho before\n{text}\n```")
    with pytest.raises(StackError, match=r"page\.md:8: '1\. One' ended with exit code 1") as failed:
        book.run_all(lambda _heading: None)
    assert "before" in str(failed.value)
    assert "\non" not in str(failed.value)


def test_the_kit_s_steps_are_there() -> None:
    text = (FOLDER / "lost-node.md").read_text()
    assert len(re.findall(r"^## \d+\. ", text, re.M)) >= 6
    assert repo.ROOT in FOLDER.parents
