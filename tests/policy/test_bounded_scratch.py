from tests.policy import sweep


def test_every_scratch_volume_has_a_limit() -> None:
    sweep.obeyed("bounded-scratch")


def test_a_scratch_volume_that_may_fill_the_node_is_refused() -> None:
    sweep.refused("bounded-scratch")
