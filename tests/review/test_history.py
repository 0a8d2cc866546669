"""Verdicts on what this repository really went through, commit by commit."""

from collections.abc import Sequence

import pytest

from xwiki_stack import proc, render, repo, review
from xwiki_stack.review import changes, sources, verdicts
from xwiki_stack.review.verdicts import Verdict

POLICY = "f140097"
"""MySQL's StatefulSet got another podManagementPolicy."""
FIRST_BOOT = "89c975b"
"""my.cnf and the start script of MySQL changed, and nothing in its StatefulSet."""
KEYS = "32a2e29"
"""MySQL's pod names the keys of its Secret one by one."""
DERIVED = "1a8093c"
"""Values are derived: other files, the same objects."""
BEFORE_BACKUPS, WITH_BACKUPS = "ee881ab", "1892483"

pytestmark = pytest.mark.skipif(
    proc.run(["git", "-C", repo.ROOT, "cat-file", "-e", POLICY], check=False).code != 0,
    reason="a shallow clone has no history to look at",
)


def said(found: Sequence[Verdict]) -> set[tuple[str, str, str]]:
    """Rule, weight and object of each verdict."""
    return {(item.rule, item.finding.weight.value, str(item.subject)) for item in found}


def one(commit: str) -> review.Section:
    """The one section of a commit's review: local and staging differ alike."""
    (section,) = review.review("", commit).sections
    assert section.names == ("local", "staging")
    return section


def test_a_field_that_kubernetes_refuses() -> None:
    section = one(POLICY)
    assert said(section.verdicts) == {("cannot-change", "refused", "StatefulSet xwiki-stack-mysql")}
    assert "--cascade=orphan" in section.verdicts[0].finding.next


def test_a_changed_my_cnf_restarts_mysql_and_stops_the_wiki_meanwhile() -> None:
    section = one(FIRST_BOOT)
    assert said(section.verdicts) == {("restart", "outage", "StatefulSet xwiki-stack-mysql")}
    finding = section.verdicts[0].finding
    assert "5 min to stop and 30 min to start" in finding.text
    assert "Deployment xwiki-stack-xwiki cannot reach it meanwhile" in finding.text
    assert finding.causes == ("ConfigMap xwiki-stack-mysql (data[my.cnf], data[start.sh])",)
    assert section.comparison.folded["checksum"] == 1


def test_named_keys_of_a_secret_must_be_there() -> None:
    section = one(KEYS)
    assert said(section.verdicts) == {
        ("restart", "outage", "StatefulSet xwiki-stack-mysql"),
        ("secret", "prepare", "StatefulSet xwiki-stack-mysql"),
    }


def test_other_values_that_render_the_same_need_nobody() -> None:
    found = review.review("", DERIVED)
    assert (found.sections, found.humans, found.same) == ((), 0, ("local", "staging"))


def test_backups_come_with_four_cronjobs_and_the_secrets_they_need() -> None:
    """With every option on, as tests/data has it at both commits: no environment has them yet."""
    with sources.trees(BEFORE_BACKUPS, WITH_BACKUPS) as both:
        old, new = (
            render.helm_template(tree.root, [tree.root / "tests" / "data" / "everything.yaml"])
            for tree in both
        )
    found = verdicts.judge(changes.compare("everything", "wiki", old, new))
    new_jobs = {item.subject.name.rpartition("-")[2] for item in found if item.rule == "schedule"}
    assert new_jobs == {"site", "verify", "prune", "restore"}
    texts = {item.finding.text for item in found if item.rule == "secret"}
    for name in ("backup-writer", "backup-verifier", "backup-prune", "backup-recovery"):
        assert any(f"reads Secret {name} with access-key" in text for text in texts), name
    broken = {item.finding.text for item in found if item.rule == "broken-rule"}
    # A rule that is younger than that commit.
    assert {text for text in broken if "ephemeral-storage" not in text} == set()
