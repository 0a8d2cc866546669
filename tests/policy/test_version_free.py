from tests.policy import sweep


def test_a_chart_version_stands_in_no_selector_pod_or_claim_template() -> None:
    sweep.obeyed("version-free")


def test_a_chart_version_where_it_restarts_or_blocks_is_refused() -> None:
    sweep.refused("version-free")
