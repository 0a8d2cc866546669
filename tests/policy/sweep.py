"""A rule over every object of every environment, and over the objects that it must refuse."""

from pathlib import Path

from tests import environments
from xwiki_stack import policy

COUNTEREXAMPLES = Path(__file__).parent / "counterexamples"


def obeyed(rule: str) -> None:
    """No object of any environment or of Flux's tree breaks the rule, and it saw something in each
    environment.
    """
    check = policy.RULES[rule]
    names = environments.names()
    assert len(names) >= 4, f"only {names} were looked at"
    for name in names:
        found = environments.objects(name)
        assert policy.looked_at(found, check) > 0, f"{rule} saw nothing in {name}"
        broken = [f"{name}/{line}" for line in policy.violations(found, check)]
        assert broken == []
    assert policy.violations(environments.tree(), check) == []


def refused(rule: str) -> None:
    """Every counter-example of the rule breaks it."""
    examples = environments.documents(COUNTEREXAMPLES / f"{rule}.yaml")
    assert examples
    passed = [
        item["metadata"]["name"]
        for item in examples
        if not policy.violations([item], policy.RULES[rule])
    ]
    assert passed == []
