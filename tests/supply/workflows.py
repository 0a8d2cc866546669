"""Rules that every hosted workflow obeys: functions from its text to what is wrong with it.

Like the rules over objects each yields one verdict for every part that it looked at. What GitHub
itself refuses, and shell that takes in words of strangers, is actionlint's business.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import yaml

from xwiki_stack import repo
from xwiki_stack.policy import Verdict

FOLDER = repo.ROOT / ".github" / "workflows"

Rule = Callable[[str], Iterator[Verdict]]

PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")

STRANGERS = {"pull_request_target", "workflow_run", "issue_comment"}
"""Events that run with our rights on what a stranger wrote."""

PUBLISHES = {"packages", "id-token", "attestations"}
"""All that a job may write, and only one that runs for tags."""


def pinned_actions(text: str) -> Iterator[Verdict]:
    """An action is named by the full hash of a commit, with its version for people."""
    for line in text.splitlines():
        if found := re.match(r"\s*(?:- )?uses: (.*)", line):
            fits = found[1].startswith("./") or PINNED.fullmatch(found[1])
            yield Verdict(found[1], "" if fits else "names no commit with its version behind it")


def least_rights(text: str) -> Iterator[Verdict]:
    """Nothing is granted to a whole workflow; a job writes only what publishing a tag needs."""
    document = yaml.safe_load(text)
    granted = document.get("permissions")
    yield Verdict("workflow", "" if granted == {} else "does not begin with `permissions: {}`")
    publishes = set(_events(document).get("push") or {}) == {"tags"}
    for name, job in document["jobs"].items():
        rights = job.get("permissions")
        if not isinstance(rights, dict):
            yield Verdict(name, "does not say what it may do")
            continue
        written = {right for right, level in rights.items() if level == "write"}
        allowed = PUBLISHES if publishes and len(_events(document)) == 1 else set()
        wrong = ", ".join(sorted(written - allowed))
        yield Verdict(name, f"writes {wrong}" if wrong else "")


def own_words(text: str) -> Iterator[Verdict]:
    """No event that gives a stranger's change our rights."""
    for event in _events(yaml.safe_load(text)):
        yield Verdict(event, "runs a stranger's change with our rights" * (event in STRANGERS))


def no_secrets(text: str) -> Iterator[Verdict]:
    """Nothing but the run's own token is used, and that by no workflow of pull requests."""
    document = yaml.safe_load(text)
    asked = "pull_request" in _events(document)
    for name, job in document["jobs"].items():
        said = yaml.safe_dump(job)
        secret = re.search(r"\bsecrets\s*[.\[]", said) or job.get("secrets")
        token = asked and re.search(r"github\.token", said)
        yield Verdict(name, "is handed a secret" if secret or token else "")


def forgets_its_token(text: str) -> Iterator[Verdict]:
    """A checkout leaves no token behind for what runs after it."""
    for name, job in yaml.safe_load(text)["jobs"].items():
        for step in job["steps"]:
            if str(step.get("uses", "")).startswith("actions/checkout@"):
                kept = step.get("with", {}).get("persist-credentials") is not False
                yield Verdict(name, "keeps its token in the checkout" if kept else "")


def bounded_jobs(text: str) -> Iterator[Verdict]:
    """A job names its machine's release and ends within a time."""
    for name, job in yaml.safe_load(text)["jobs"].items():
        newest = str(job.get("runs-on", "")).endswith("latest")
        yield Verdict(name, "runs on whatever is latest" if newest else "")
        yield Verdict(name, "" if "timeout-minutes" in job else "has no end")


RULES: dict[str, Rule] = {
    "pinned-actions": pinned_actions,
    "least-rights": least_rights,
    "own-words": own_words,
    "no-secrets": no_secrets,
    "forgets-its-token": forgets_its_token,
    "bounded-jobs": bounded_jobs,
}


def violations(text: str, rule: Rule) -> list[str]:
    """What is wrong, one line each."""
    return [f"{v.subject}: {v.problem}" for v in rule(text) if v.problem]


def _events(document: dict[Any, Any]) -> dict[str, Any]:
    """What starts a workflow. YAML 1.1 reads its key `on` as true."""
    events = document[True]
    if isinstance(events, dict):
        return events
    return dict.fromkeys([events] if isinstance(events, str) else events)
