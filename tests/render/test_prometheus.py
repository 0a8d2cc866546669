"""ServiceMonitor and PrometheusRule fit the CRDs of kube-prometheus-stack.

The CRDs lie beside the checkout (../shared/upstream); where they do not, this stays unproven, and
docs/testing.md says so. That the alerts mean what they say is judged by test_alerts.py, everywhere.
"""

import copy
from typing import Any

import pytest

from tests import crds, environments

KINDS = {"ServiceMonitor", "PrometheusRule"}

pytestmark = crds.here


@pytest.mark.parametrize("environment", ["prod-decided", "everything"])
def test_what_the_operator_reads_fits_its_crds(environment: str) -> None:
    found = [item for item in environments.objects(environment) if item["kind"] in KINDS]
    assert sorted(item["kind"] for item in found) == sorted([*KINDS, *KINDS])
    for item in found:
        assert crds.mistakes(item) == []


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("PrometheusRule", ("spec", "groups", 0, "rules", 0, "fro"), "5m"),
        ("PrometheusRule", ("spec", "groups", 0, "rules", 0, "for"), "five minutes"),
        ("PrometheusRule", ("spec", "groups", 0, "rules", 0, "labels"), ["critical"]),
        ("ServiceMonitor", ("spec", "endpoints", 0, "interval"), 30),
        ("ServiceMonitor", ("spec", "selectr"), {}),
    ],
)
def test_what_does_not_fit_is_noticed(kind: str, path: tuple[Any, ...], value: Any) -> None:
    found = [item for item in environments.objects("everything") if item["kind"] == kind]
    item = copy.deepcopy(found[0])
    place: Any = item
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert crds.mistakes(item) != []
