from tests.policy import sweep


def test_every_job_ends() -> None:
    sweep.obeyed("bounded-jobs")


def test_a_job_that_may_hang_for_ever_is_refused() -> None:
    sweep.refused("bounded-jobs")
