from tests import environments
from tests.policy import sweep
from xwiki_stack import policy


def test_every_namespace_of_ours_is_restricted() -> None:
    found = environments.namespaces()
    names = {item["metadata"]["name"] for item in found}
    assert {"wiki-local", "xwiki-stack-demo"} <= names
    assert policy.violations(found, policy.restricted_namespaces) == []
    assert policy.looked_at(found, policy.restricted_namespaces) == 2 * len(found)


def test_a_namespace_that_admits_more_is_refused() -> None:
    sweep.refused("restricted-namespaces")


def test_an_exception_is_of_a_level_and_says_why() -> None:
    for name, (level, why) in policy.WIDE_NAMESPACES.items():
        assert level in {"privileged", "baseline"}, name
        assert len(why.split()) > 3, name
