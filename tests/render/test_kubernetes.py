"""Every object is what Kubernetes' own schemas of our version allow, unknown fields refused."""

import json
from typing import Any

import kubernetes_validate
import pytest

from tests import environments
from xwiki_stack import flows, matrix
from xwiki_stack.render import Manifest

VERSION = "1.36"

FOREIGN = ("gateway.networking.k8s.io/", "monitoring.coreos.com/")
"""Kubernetes has no schemas of its own for these groups, and the bed has neither of them;
test_prometheus.py judges the second where its CRDs lie beside the checkout."""


def mistakes(item: Manifest) -> str:
    """What the schema says against an object, '' if nothing."""
    plain: dict[str, Any] = json.loads(json.dumps(item))
    try:
        kubernetes_validate.validate(plain, VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
        return str(error.message)
    return ""


@pytest.mark.parametrize("environment", environments.names())
def test_every_object_fits_the_schema_of_its_kind(environment: str) -> None:
    found = [
        item
        for item in environments.objects(environment)
        if not item["apiVersion"].startswith(FOREIGN)
    ]
    assert len(found) >= 10, "the sweep looked at too little"
    assert {f"{item['kind']}: {said}" for item in found if (said := mistakes(item))} == set()


@pytest.mark.parametrize("room", matrix.rooms(flows.load()))
def test_policies_of_every_room_fit_the_schema_of_their_kind(room: str) -> None:
    _, own = matrix.fullest(flows.load())
    found = matrix.platform(own, room).objects
    assert found
    assert [said for item in found if (said := mistakes(item))] == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "replicas"), "one"),
        (("spec", "strategi"), {"type": "Recreate"}),
        (("spec", "template", "spec", "containers"), {}),
    ],
    ids=["a-wrong-type", "an-unknown-field", "a-map-for-a-list"],
)
def test_an_object_that_does_not_fit_is_noticed(path: tuple[str, ...], value: object) -> None:
    item = json.loads(json.dumps(environments.only(environments.objects("defaults"), "Deployment")))
    place = item
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert mistakes(item) != ""
