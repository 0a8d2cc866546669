from tests.policy import sweep


def test_every_container_drops_all_capabilities() -> None:
    sweep.obeyed("capabilities")


def test_a_container_that_keeps_or_may_gain_capabilities_is_refused() -> None:
    sweep.refused("capabilities")
