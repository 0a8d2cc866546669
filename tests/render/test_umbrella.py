"""The umbrella: its parts, its switches, and the contradictions it refuses in words."""

from typing import Any

import pytest
import yaml

from tests import environments
from xwiki_stack import generate, render, repo
from xwiki_stack.errors import IntentError

COMPONENTS = {"xwiki", "mysql", "backups", "netpol"}


def umbrella(*values: dict[str, Any]) -> list[render.Manifest]:
    return render.helm_template(values=list(values))


def components(*values: dict[str, Any]) -> set[str]:
    labels = [item["metadata"]["labels"] for item in umbrella(*values)]
    return {label["app.kubernetes.io/component"] for label in labels}


def test_four_subcharts_of_the_umbrellas_own_version_without_a_repository() -> None:
    meta = yaml.safe_load((repo.ROOT / "Chart.yaml").read_text())
    assert {item["name"] for item in meta["dependencies"]} == COMPONENTS
    for item in meta["dependencies"]:
        own = yaml.safe_load((repo.ROOT / "charts" / item["name"] / "Chart.yaml").read_text())
        assert item["version"] == own["version"] == meta["version"]
        assert item["condition"] == f"{item['name']}.enabled"
        assert "repository" not in item


def test_a_switched_off_component_renders_nothing() -> None:
    assert components() == {"xwiki", "mysql"}
    external = {"mysql": {"enabled": False}, "xwiki": {"database": {"host": "db.example.org"}}}
    assert components(external) == {"xwiki"}
    assert components({"xwiki": {"enabled": False}}) == {"mysql"}


@pytest.mark.parametrize("name", sorted(COMPONENTS))
def test_every_subchart_renders_alone(name: str) -> None:
    objects = environments.chart(name)
    assert bool(objects) == (name in {"xwiki", "mysql"})


CONTRADICTIONS: list[tuple[dict[str, Any], list[str]]] = [
    ({"mysql": {"enabled": False}}, ["mysql.enabled is false", "xwiki.database.host is empty"]),
    (
        {"xwiki": {"database": {"host": "db.example.org"}}},
        ["mysql.enabled is true", '"db.example.org"'],
    ),
    ({"xwiki": {"database": {"name": "wiki"}}}, ["xwiki.database.name", "mysql.database.schemas"]),
    ({"xwiki": {"database": {"user": "wiki"}}}, ["xwiki.database.user", "mysql.database.user"]),
    ({"mysql": {"service": {"port": 3307}}}, ["xwiki.database.port", "mysql.service.port"]),
    ({"xwiki": {"ingress": {"enabled": True}}}, ["xwiki.ingress.host is empty"]),
    ({"xwiki": {"httpRoute": {"enabled": True}}}, ["xwiki.httpRoute.host", "parentRefs"]),
    ({"xwiki": {"flavor": "xip"}}, ["xwiki.xip.claim", "xwiki.xip.path"]),
    ({"xwiki": {"attachments": {"store": "s3"}}}, ["attachments.s3.bucket", "existingSecret"]),
    ({"netpol": {"enabled": True}}, ["netpol.enabled", "empty shells"]),
    (
        {
            "xwiki": {
                "home": "http://wiki.example.org/",
                "ingress": {"enabled": True, "host": "wiki.example.org", "tlsSecret": "tls"},
            }
        },
        ["xwiki.ingress.tlsSecret", "xwiki.home", "https://"],
    ),
]


@pytest.mark.parametrize(("values", "words"), CONTRADICTIONS, ids=lambda v: v[0] if isinstance(v, list) else "")  # fmt: skip  # noqa: E501
def test_a_contradiction_is_refused_with_both_keys(
    values: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(IntentError) as caught:
        umbrella(values)
    for word in words:
        assert word in str(caught.value)


def test_all_contradictions_are_told_at_once() -> None:
    both = {"xwiki": {"database": {"name": "a"}, "ingress": {"enabled": True}}}
    with pytest.raises(IntentError) as caught:
        umbrella(both)
    assert "xwiki.database.name" in str(caught.value)
    assert "xwiki.ingress.host" in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        {"typo": {}},
        {"xwiki": {"typo": 1}},
        {"mysql": {"config": {"typo": 1}}},
        {"backups": {"typo": 1}},
        {"netpol": {"typo": 1}},
        {"global": {"typo": 1}},
    ],
    ids=str,
)
def test_an_unknown_key_is_refused_wherever_it_stands(values: dict[str, Any]) -> None:
    with pytest.raises(IntentError, match="typo"):
        umbrella(values)


def test_values_that_agree_are_accepted() -> None:
    """The counter-example to all refusals above."""
    names = {"database": {"name": "wiki", "user": "wiki"}}
    agreed = {"xwiki": names, "mysql": {"database": {"schemas": ["wiki"], "user": "wiki"}}}
    assert len(umbrella(agreed)) == len(umbrella())


@pytest.mark.parametrize("environment", ["local", "staging"])
def test_the_generated_values_are_what_the_charts_accept(environment: str) -> None:
    assert len(render.helm_template(values=[generate.path_of(environment)])) >= 10
