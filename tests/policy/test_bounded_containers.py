from tests.policy import sweep


def test_every_container_has_requests_and_limits() -> None:
    sweep.obeyed("bounded-containers")


def test_a_container_that_may_take_everything_is_refused() -> None:
    sweep.refused("bounded-containers")
