"""The mission's fifteen decisions, four of them blocking, as an environment has taken them."""

import pytest

from xwiki_stack import cli, decisions


def test_prod_has_four_blocking_decisions_open() -> None:
    rows = decisions.table("prod")
    assert [row.number for row in rows] == list(range(1, 16))
    assert [row.number for row in rows if row.weight == "blocking"] == [1, 2, 3, 4]
    assert [row.number for row in rows if row.blocks] == [1, 2, 3, 4]


def test_staging_has_decided_what_it_tries_out() -> None:
    state = {row.number: row.state for row in decisions.table("staging")}
    assert state[1] == "decided: 9.7"
    assert state[4] == "decided: RPO 24h, RTO 2h"
    assert state[3].startswith("open: write host")


def test_an_unpinned_image_is_an_open_decision() -> None:
    (pinning,) = [row for row in decisions.table("prod") if row.number == 10]
    assert pinning.state.startswith("open")
    assert pinning.weight == "important"


def test_every_decision_names_owner_state_and_what_it_changes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = decisions.table("prod")
    assert all(row.owner and row.changes for row in rows)
    assert all(row.state.startswith(("open", "decided")) for row in rows)
    assert cli.main(["decisions"]) == 0
    said = capsys.readouterr().out
    assert all(row.what in said and row.owner in said for row in rows)
    assert "4 blocking and open: 1, 2, 3, 4" in said
