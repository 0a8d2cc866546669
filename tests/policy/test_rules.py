"""The rules themselves: each is swept, each has been seen to refuse, none refuses what is right."""

from tests import environments
from tests.policy.sweep import COUNTEREXAMPLES
from xwiki_stack import policy


def test_every_rule_has_its_file_and_its_counterexamples() -> None:
    rules = set(policy.RULES)
    assert {path.stem for path in COUNTEREXAMPLES.glob("*.yaml")} == rules
    files = {path.stem for path in COUNTEREXAMPLES.parent.glob("test_*.py")} - {"test_rules"}
    assert files == {f"test_{rule.replace('-', '_')}" for rule in rules}


def test_every_rule_says_what_it_wants() -> None:
    assert [name for name, rule in policy.RULES.items() if not rule.__doc__] == []


def test_an_object_that_is_right_passes_every_rule() -> None:
    right = environments.documents(COUNTEREXAMPLES.parent / "right.yaml")
    assert {policy.looked_at(right, rule) > 0 for rule in policy.RULES.values()} == {True}
    assert [policy.violations(right, rule) for rule in policy.RULES.values()] == [
        [] for _ in policy.RULES
    ]


def test_the_cause_is_named_with_its_object_and_its_part() -> None:
    (example, *_others) = environments.documents(COUNTEREXAMPLES / "named-images.yaml")
    assert policy.violations([example], policy.named_images) == [
        "Pod/latest: app: image docker.io/library/mysql:latest is whatever is latest"
    ]


def test_every_container_of_every_kind_of_workload_is_seen() -> None:
    (pod, *_others) = environments.documents(COUNTEREXAMPLES / "non-root.yaml")
    template = {"metadata": {}, "spec": pod["spec"]}
    job = {"spec": {"template": template}}
    for kind in policy.WORKLOADS:
        item = {"kind": kind, "metadata": {"name": "x"}, **job}
        assert len(policy.violations([item], policy.non_root)) == 1, kind
    cron = {"kind": "CronJob", "metadata": {"name": "x"}, "spec": {"jobTemplate": job}}
    assert len(policy.violations([cron], policy.non_root)) == 1
    hidden = {"containers": [], "initContainers": pod["spec"]["containers"]}
    early = {"kind": "Pod", "metadata": {"name": "x"}, "spec": hidden}
    assert len(policy.violations([early], policy.non_root)) == 1
