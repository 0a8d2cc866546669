from pytest import MonkeyPatch

from tests import environments
from tests.policy import sweep
from xwiki_stack import policy


def test_nothing_has_rights_in_the_whole_cluster() -> None:
    sweep.obeyed("named-bindings")


def test_a_binding_for_the_whole_cluster_is_refused() -> None:
    sweep.refused("named-bindings")


def test_one_that_is_named_with_its_reason_is_not(monkeypatch: MonkeyPatch) -> None:
    examples = environments.documents(sweep.COUNTEREXAMPLES / "named-bindings.yaml")
    monkeypatch.setattr(policy, "CLUSTER_BINDINGS", {"reads-nodes": "a reason"})
    left = policy.violations(examples, policy.named_bindings)
    assert len(left) == len(examples) - 1
    assert "reads-nodes" not in str(left)
