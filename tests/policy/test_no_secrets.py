from tests.policy import sweep


def test_no_object_carries_a_secret() -> None:
    sweep.obeyed("no-secrets")


def test_a_secret_in_an_object_is_refused() -> None:
    sweep.refused("no-secrets")
