from tests.policy import sweep


def test_every_container_runs_as_a_user_that_is_not_root() -> None:
    sweep.obeyed("non-root")


def test_a_container_that_may_be_root_is_refused() -> None:
    sweep.refused("non-root")
