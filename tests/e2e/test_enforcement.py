"""NetworkPolicy is enforced on the bed; everything that relies on it depends on this proof."""

from tests.e2e import enforcement
from tests.e2e.conftest import Bed
from tests.e2e.patience import eventually


def test_a_forbidden_connection_is_blocked_and_an_allowed_one_passes(
    bed: Bed,
    enforcement: None,
) -> None:
    assert bed.kube.get("Pod", "server", enforcement_namespace()) is not None


def test_the_proof_fails_where_a_policy_allows_the_stranger(
    bed: Bed,
    enforcement: None,
) -> None:
    """The counter-example: with the wrong peer in the policy the roles are swapped."""
    swapped = policy_for("stranger")
    address = server(bed)
    bed.kube.apply(swapped)
    assert eventually(lambda: connects(bed, "stranger", address), seconds=30)
    eventually(lambda: not connects(bed, "friend", address), seconds=30)
    bed.kube.apply(policy_for("friend"))
    assert eventually(lambda: connects(bed, "friend", address), seconds=30)


def enforcement_namespace() -> str:
    return enforcement.NAMESPACE


policy_for = enforcement.policy
server = enforcement.server_address
connects = enforcement.connects
