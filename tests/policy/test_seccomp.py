from tests.policy import sweep


def test_every_container_runs_under_the_seccomp_profile() -> None:
    sweep.obeyed("seccomp")


def test_a_container_without_a_seccomp_profile_is_refused() -> None:
    sweep.refused("seccomp")
