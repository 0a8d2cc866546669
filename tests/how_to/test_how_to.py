"""The pages of docs/how-to are done as they stand there, on a clone of their own."""

import re
from pathlib import Path

import pytest
import yaml

from tests.clone import Clone
from xwiki_stack import proc, repo
from xwiki_stack.errors import StackError
from xwiki_stack.runbook import Block, Runbook, blocks

FOLDER = repo.ROOT / "docs" / "how-to"

PAGES = sorted(FOLDER.glob("*.md"))


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """What somebody gets who clones this repository."""
    return Clone.make(tmp_path_factory.mktemp("fresh") / "clone")


@pytest.fixture
def clone(fresh: Clone, tmp_path: Path) -> Clone:
    """A clone of this repository, on main and clean."""
    return fresh.copy(tmp_path / "clone")


def page(clone: Clone, name: str, **variables: str) -> Runbook:
    """A page as somebody follows it in a clone."""
    return Runbook(FOLDER / name, {**clone.env, **variables})


def of(language: str, path: Path) -> list[Block]:
    return [block for block in blocks(path) if block.language == language]


def test_there_is_an_index_of_all_pages() -> None:
    index = (FOLDER / "README.md").read_text()
    assert len(PAGES) >= 5
    assert [p.name for p in PAGES if p.name != "README.md" and f"]({p.name})" not in index] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_every_block_parses_and_says_where_it_is_not_executed(path: Path) -> None:
    prose = re.sub(r"^```.*$", "", path.read_text(), flags=re.M).lower()
    for block in of("sh", path):
        said = proc.run(["bash", "-n"], stdin=block.text, check=False)
        assert said.code == 0, f"{path.name}:{block.line}: {said.err}"
        assert block.executed or "not executed here" in prose, f"{path.name}:{block.line}"
    for block in of("yaml", path):
        assert list(yaml.safe_load_all(block.text)), f"{path.name}:{block.line}"


def test_an_environment_is_added_and_taken_away(clone: Clone) -> None:
    clone.edit("values/clusters/main.yaml", "disk: 200Gi", "disk: 400Gi")
    clone.run("generate")
    clone.commit("a larger disk")
    before = clone.git("rev-parse", "HEAD^{tree}")
    book = page(clone, "add-an-environment.md")
    *coming, going = book.steps
    said = "".join(book.run(block) for block in coming)
    assert clone.git("status", "--porcelain") == ""
    added = clone.git("show", "--name-only", "--format=%s").splitlines()
    assert added[0] == "feat(intent): training"
    assert {"values/envs/training.yaml", "values/generated/training/xwiki-stack.yaml"} <= {*added}
    assert "Deployment xwiki-stack-xwiki" in said
    assert re.search(r"reads Secret xwiki-stack-mysql", " ".join(said.split()))
    assert "training (namespace open4goods-training)" in said
    path = clone.root / "values/generated/training/xwiki-stack.yaml"
    values = yaml.safe_load(path.read_text())
    assert values["xwiki"]["image"]["tag"].startswith("17.10.")
    book.run(going)
    assert clone.git("rev-parse", "HEAD^{tree}") == before


def test_an_environment_without_room_is_told_by_how_much(clone: Clone) -> None:
    book = page(clone, "add-an-environment.md")
    book.run(book.of("1.")[0])
    with pytest.raises(StackError, match=r"the requests exceed the nodes by \d+ GiB of disk"):
        book.run(book.of("2.")[0])


def test_an_environment_that_is_no_good_is_refused_where_the_page_generates(clone: Clone) -> None:
    book = page(clone, "add-an-environment.md", ENV="production")
    book.run(book.of("1.")[0])
    with pytest.raises(StackError, match=r"is production by its name.*next: write prod"):
        book.run(book.of("3.")[0])


def test_a_value_is_changed_and_its_effect_read(clone: Clone) -> None:
    book = page(clone, "change-a-value.md")
    said = " ".join(book.run_all(lambda _heading: None).split())
    assert "restarts: down for up to" in said
    assert clone.git("status", "--porcelain") == ""
    changed = clone.git("diff", "--unified=0", "HEAD~1", "HEAD", "--", "values/generated")
    assert "+      memory: 5Gi" in changed
    assert re.search(r"^\+    heap: \d+m$", changed, re.M), "the heap follows the limit"
    assert "MySQL" not in changed


def test_the_door_is_switched_and_its_files_with_it(clone: Clone) -> None:
    clone.edit("values/clusters/main.yaml", "domain: undecided", "domain: example.net")
    clone.run("generate")
    clone.commit("a domain")
    book = page(clone, "switch-ingress.md")
    said = " ".join(book.run_all(lambda _heading: None).split())
    changed = clone.git("diff", "--name-status", "HEAD~1", "HEAD").splitlines()
    assert "D\tvalues/generated/main/ingress-nginx.yaml" in changed
    assert "A\tvalues/generated/main/traefik.yaml" in changed
    assert [line for line in changed if line.startswith("A\tflux/clusters/main/traefik-config/")]
    assert "HTTPRoute" in said and "Ingress" in said
    assert clone.git("status", "--porcelain") == ""


def test_the_zone_goes_to_another_provider_and_keeps_its_owner(clone: Clone) -> None:
    clone.edit("values/clusters/main.yaml", "domain: undecided", "domain: example.net")
    clone.run("generate")
    clone.commit("a domain")
    path = clone.root / "values/generated/main/external-dns.yaml"
    before = yaml.safe_load(path.read_text())
    page(clone, "switch-dns.md").run_all(lambda _heading: None)
    after = yaml.safe_load(path.read_text())
    assert "ovh" in str(before["provider"]) and "cloudflare" in str(after["provider"])
    for key in ("txtOwnerId", "txtPrefix", "policy"):
        assert after[key] == before[key] != ""
    assert clone.git("status", "--porcelain") == ""


def test_the_first_install_goes_as_far_as_a_desk_can(clone: Clone) -> None:
    book = page(clone, "first-install.md", DOMAIN="example.net", DISK="500Gi")
    said = book.run_all(lambda _heading: None)
    facts = yaml.safe_load((clone.root / "values/clusters/main.yaml").read_text())
    assert facts["domain"] == "example.net"
    assert facts["nodes"] == {"count": 1, "cpu": "4", "memory": "15Gi", "disk": "500Gi"}
    values = yaml.safe_load((clone.root / "values/generated/staging/xwiki-stack.yaml").read_text())
    assert values["xwiki"]["ingress"]["host"] == "xwiki-staging.example.net"
    assert not (clone.root / "values/generated/prod").exists()
    assert "blocking and open" in said
    assert clone.git("status", "--porcelain") == ""


def test_a_version_is_looked_at_written_and_committed(clone: Clone) -> None:
    """On the local environment, of which no condition is asked."""
    book = page(clone, "upgrade.md", ENV="local")
    headings: list[str] = []
    said = book.run_all(headings.append)
    assert [heading[:2] for heading in headings] == ["1.", "4.", "5."]
    assert "XWiki 17.10.13 -> 18.4.5 in local" in said
    assert "feat(intent): local moves to XWiki 18.4.5" in said
    assert "nothing to do: that is the version of local already" in said
    assert clone.git("branch", "--show-current") == "upgrade-local"
    assert clone.git("status", "--porcelain") == ""
    values = yaml.safe_load((clone.root / "values/generated/local/xwiki-stack.yaml").read_text())
    assert values["xwiki"]["image"]["tag"] == "18.4.5-mysql-tomcat"
