from tests.policy import sweep


def test_every_container_that_stays_has_all_three_probes() -> None:
    sweep.obeyed("probes")


def test_a_container_that_stays_without_probes_is_refused() -> None:
    sweep.refused("probes")
