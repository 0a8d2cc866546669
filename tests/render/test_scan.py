"""checkov and kube-score themselves: red on the objects that our rules refuse, content with ours.

The objects are those of tests/policy/counterexamples: each is wrong in one way.
"""

import pytest

from tests import environments
from tests.policy.sweep import COUNTEREXAMPLES
from xwiki_stack import proc, scan
from xwiki_stack.scan import checkov, findings, objects, results
from xwiki_stack.scan.findings import Scan

SEEN = {
    "bounded-containers": {
        "CKV_K8S_10", "CKV_K8S_11", "CKV_K8S_12", "CKV_K8S_13",
        "container-resources", "container-ephemeral-storage-request-and-limit",
    },
    "capabilities": {"CKV_K8S_20", "CKV_K8S_37"},
    "named-images": {"CKV_K8S_14", "CKV_K8S_43", "container-image-tag"},
    "narrow-rights": {"CKV_K8S_49"},
    "no-host-access": {
        "CKV_K8S_16", "CKV_K8S_17", "CKV_K8S_18", "CKV_K8S_19", "CKV_K8S_26",
        "container-security-context-privileged",
    },
    "no-token": {"CKV_K8S_38"},
    "non-root": {"CKV_K8S_23", "container-security-context-user-group-id"},
    "probes": {"CKV_K8S_8", "CKV_K8S_9"},
    "read-only-root": {"CKV_K8S_22", "container-security-context-readonlyrootfilesystem"},
    "seccomp": {"CKV_K8S_31"},
}  # fmt: skip
"""Rule of ours to checks of theirs that find its counter-examples as well."""


@pytest.fixture(scope="module")
def red() -> Scan:
    """What both say of all counter-examples, whose names begin with their rule's."""
    scan.install(lambda _text: None)
    found = []
    for rule in SEEN:
        for item in environments.documents(COUNTEREXAMPLES / f"{rule}.yaml"):
            item["metadata"]["name"] = f"{rule}--{item['metadata']['name']}"
            found.append(item)
    return scan.run({"wrong": objects.namespaced(found, "wrong")})


@pytest.mark.parametrize("rule", sorted(SEEN))
def test_what_our_rule_refuses_a_scanner_refuses_too(red: Scan, rule: str) -> None:
    found = {item.check for item in red.findings if f"/{rule}--" in item.item}
    assert SEEN[rule] <= found


def test_both_scanners_are_seen_red(red: Scan) -> None:
    for scanner in results.COMPARED:
        assert len(red.of(scanner)) > 20
    assert findings.judge(red, {"checkov": {}, "kube-score": {}})


def test_a_finding_names_its_object_and_its_container(red: Scan) -> None:
    said = [
        (item.item, item.words)
        for item in red.findings
        if item.check == "container-security-context-privileged"
    ]
    assert said == [("Pod/no-host-access--privileged", "app: The container is privileged")]
    said = [(item.item, item.words) for item in red.findings if item.check == "CKV_K8S_16"]
    assert said == [("Pod/no-host-access--privileged", "Container should not be privileged")]


def test_no_scanner_complains_of_our_objects() -> None:
    said: list[str] = []
    assert scan.scan(write=False, emit=said.append) == []
    assert [line.partition(":")[0] for line in said][-3:] == list(scan.SCANNERS)


def test_every_environment_is_looked_at() -> None:
    """As the sweeps of tests/policy know them, but for charts whose values nobody gave."""
    assert set(objects.environments()) == set(environments.names()) - {"defaults"}
    assert all(len(found) > 5 for found in objects.environments().values())


def test_checkov_works_where_there_is_no_network(red: Scan) -> None:
    """In a network namespace of its own, without even a loopback that is up."""
    alone = proc.run(["unshare", "--net", "--map-root-user", "true"], check=False)
    if alone.code != 0:
        pytest.skip(
            f"UNPROVEN: no network namespace can be made, root may on Linux: {alone.err.strip()}"
        )
    argv = checkov.command(COUNTEREXAMPLES / "no-token.yaml")
    said = proc.run(
        ["unshare", "--net", "--map-root-user", *argv], env=checkov.OFFLINE, check=False
    )
    assert '"CKV_K8S_38"' in said.out, said.err
