"""ServiceMonitor and PrometheusRule fit the CRDs of kube-prometheus-stack.

The CRDs lie beside the checkout (../shared/upstream); where they do not, this stays unproven, and
docs/testing.md says so. That the alerts mean what they say is judged by test_alerts.py, everywhere.
"""

import copy
from functools import cache
from typing import Any

import jsonschema
import pytest
import yaml

from tests import environments
from xwiki_stack import repo
from xwiki_stack.render import Manifest

CRDS = repo.ROOT.parent / "shared" / "upstream" / "kube-prometheus-stack" / "crds"

KINDS = {"ServiceMonitor": "servicemonitors", "PrometheusRule": "prometheusrules"}

pytestmark = pytest.mark.skipif(
    not CRDS.is_dir(), reason="the CRDs of kube-prometheus-stack are not beside the checkout"
)


@cache
def schema(kind: str) -> dict[str, Any]:
    """A kind's schema out of its CRD, unknown fields refused."""
    crd = yaml.safe_load((CRDS / f"crd-{KINDS[kind]}.yaml").read_text())
    (version,) = [v for v in crd["spec"]["versions"] if v["name"] == "v1"]
    found: dict[str, Any] = strict(version["schema"]["openAPIV3Schema"])
    found["properties"]["metadata"] = {"type": "object"}
    return found


def strict(node: Any) -> Any:
    """A schema without unknown fields, and with Kubernetes' own words in JSON Schema's."""
    if isinstance(node, list):
        return [strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    made = {key: strict(value) for key, value in node.items()}
    if made.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    if isinstance(made.get("properties"), dict) and made.get("type") == "object":
        made.setdefault("additionalProperties", False)
    return made


def mistakes(item: Manifest) -> list[str]:
    """What the CRD says against an object."""
    found = jsonschema.Draft7Validator(schema(item["kind"])).iter_errors(item)
    return [error.message for error in found]


@pytest.mark.parametrize("environment", ["prod-decided", "everything"])
def test_what_the_operator_reads_fits_its_crds(environment: str) -> None:
    found = [item for item in environments.objects(environment) if item["kind"] in KINDS]
    assert len(found) == 2
    for item in found:
        assert mistakes(item) == []


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
    item = copy.deepcopy(environments.only(environments.objects("everything"), kind))
    place: Any = item
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert mistakes(item) != []
