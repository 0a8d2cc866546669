from tests.policy import sweep


def test_no_pod_touches_its_node() -> None:
    sweep.obeyed("no-host-access")


def test_a_pod_that_touches_its_node_is_refused() -> None:
    sweep.refused("no-host-access")
