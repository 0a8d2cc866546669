from tests.policy import sweep


def test_every_service_is_inside_the_cluster() -> None:
    sweep.obeyed("inside-only")


def test_a_service_that_is_reachable_from_outside_is_refused() -> None:
    sweep.refused("inside-only")
