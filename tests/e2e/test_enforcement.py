"""NetworkPolicy is enforced on the bed; everything that relies on it depends on this proof."""

from dataclasses import dataclass
from typing import Any, cast

import pytest

from tests.e2e import enforcement as proof
from tests.e2e.conftest import Bed
from xwiki_stack import proc


def test_a_forbidden_connection_is_blocked_and_an_allowed_one_passes(
    bed: Bed, enforcement: None
) -> None:
    address = proof.server_address(bed)
    proof.sees(bed, "stranger", address, False, "the stranger is let through")
    proof.sees(bed, "friend", address, True, "the friend is blocked")


def test_the_roles_swap_with_the_policy(bed: Bed, enforcement: None) -> None:
    """The verdict follows the policy: it is not a broken pod that looks like a blocked one."""
    address = proof.server_address(bed)
    bed.kube.apply(proof.policy("stranger"))
    try:
        proof.sees(bed, "stranger", address, True, "the stranger stays blocked")
        proof.sees(bed, "friend", address, False, "the friend is still let through")
    finally:
        bed.kube.apply(proof.policy("friend"))
    proof.sees(bed, "friend", address, True, "the friend stays blocked")
    proof.sees(bed, "stranger", address, False, "the stranger is still let through")


@dataclass
class Pretended:
    """A bed whose network answers every connection alike, whatever the policies say."""

    answer: proc.Result

    @property
    def kube(self) -> "Pretended":
        return self

    def apply(self, _manifest: dict[str, Any]) -> None:
        """Takes everything."""

    def every(self, _kind: str, _namespace: str) -> list[dict[str, Any]]:
        status = {"phase": "Running", "podIP": "192.0.2.1"}
        names = ("server", "friend", "stranger")
        return [{"metadata": {"name": name}, "status": status} for name in names]

    def kubectl(self, *_words: str, **_options: object) -> proc.Result:
        return self.answer


@pytest.mark.parametrize(
    ("code", "said", "complaint"),
    [
        (0, "open", "does not enforce"),
        (143, "", "no network at all"),
        (1, "", "neither open nor silent"),
    ],
    ids=["nothing is blocked", "everything is silent", "everything is refused"],
)
def test_the_proof_fails_on_a_network_where(code: int, said: str, complaint: str) -> None:
    """The counter-examples of the proof itself."""
    bed = cast(Bed, Pretended(proc.Result((), code, said, "")))
    with pytest.raises(AssertionError, match=complaint):
        proof.prove(bed, seconds=0.1)
