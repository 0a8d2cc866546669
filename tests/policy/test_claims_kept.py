from tests.policy import sweep


def test_no_claim_goes_with_its_release() -> None:
    sweep.obeyed("claims-kept")


def test_a_claim_that_helm_or_a_workload_would_delete_is_refused() -> None:
    sweep.refused("claims-kept")
