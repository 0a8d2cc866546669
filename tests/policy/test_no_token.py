from tests.policy import sweep


def test_no_pod_has_a_token_of_the_api_server() -> None:
    sweep.obeyed("no-token")


def test_a_pod_or_an_account_with_a_token_is_refused() -> None:
    sweep.refused("no-token")
