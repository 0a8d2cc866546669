"""Values, their schemas and their words: the same rules for every chart."""

import itertools
from typing import Any

import jsonschema
import pytest

from tests import environments
from tests.render import schemas
from xwiki_stack import render
from xwiki_stack.errors import IntentError

KUBERNETES = {f"affinity.{kind}" for kind in ("nodeAffinity", "podAffinity", "podAntiAffinity")}
"""Below these the keys are Kubernetes' own."""


def refused(chart: str, values: dict[str, Any]) -> list[str]:
    """What a chart's schema has against its defaults, once these values are laid over them."""

    def over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
        both = {k: over(below[k], v) for k, v in above.items() if isinstance(below.get(k), dict)}
        return {**below, **above, **both}

    found = jsonschema.Draft7Validator(schemas.of(chart)).iter_errors(
        over(schemas.defaults(chart), values)
    )
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in found]


# Keys


@pytest.mark.parametrize("chart", schemas.CHARTS)
def test_unknown_keys_are_refused_at_every_level(chart: str) -> None:
    schema = schemas.of(chart)
    jsonschema.Draft7Validator.check_schema(schema)
    runs = chart in schemas.RUNNING
    assert len(dict(schemas.objects(schema))) > (20 if runs else 6)
    # Helm hands on the umbrella's globals.
    assert schemas.open_objects(schema) == {"global", *(KUBERNETES if runs else ())}


def test_an_open_object_would_be_noticed() -> None:
    schema = schemas.of("mysql")
    del schema["definitions"]["tolerations"]["items"]["additionalProperties"]
    assert "tolerations[]" in schemas.open_objects(schema)


@pytest.mark.parametrize("chart", schemas.CHARTS)
def test_no_value_can_be_taken_away(chart: str) -> None:
    schema, values = schemas.of(chart), schemas.defaults(chart)
    found = list(schemas.branches(values))
    assert len(found) > (40 if chart in schemas.RUNNING else 12)
    assert schemas.optional(schema, values) == []
    validator = jsonschema.Draft7Validator(schema)
    assert validator.is_valid(values)
    assert [p for p in found if validator.is_valid(schemas.without(values, p))] == []


def test_a_value_that_could_be_taken_away_would_be_noticed() -> None:
    schema, values = schemas.of("mysql"), schemas.defaults("mysql")
    schema["definitions"]["resources"]["required"].remove("limits")
    assert schemas.optional(schema, values) == ["resources.limits"]


@pytest.mark.parametrize(
    "path",
    [
        "image.tag",
        "resources",
        "resources.limits.memory",
        "persistence.claimTemplateSize",
        "probes.startup",
        "config",
        "service",
    ],
)
def test_a_value_that_is_set_to_nothing_is_refused_by_the_schema(path: str) -> None:
    """By Helm itself, alone and in the umbrella, in the schema's words and not a template's."""
    nothing = schemas.changed(path, None)
    with pytest.raises(IntentError, match="specifications of the schema"):
        environments.chart("mysql", nothing)
    with pytest.raises(IntentError, match="specifications of the schema"):
        render.helm_template(values=[{"mysql": nothing}])


@pytest.mark.parametrize("chart", schemas.CHARTS)
def test_the_umbrella_knows_the_keys_of_a_component_that_is_off(chart: str) -> None:
    """Helm drops the schema of a chart that is switched off; a typo there waits for its day."""
    umbrella, own = schemas.of(""), schemas.of(chart)
    known = umbrella["definitions"][chart]
    assert known.pop("description")
    assert known == schemas.keys(own, own["definitions"])
    shared = {
        name: kept
        for name, node in own["definitions"].items()
        if (kept := schemas.keys(node, own["definitions"])) is not True
    }
    assert len(shared) >= (5 if chart in schemas.RUNNING else 1)
    assert shared.items() <= umbrella["definitions"].items()
    part = umbrella["properties"][chart]
    assert part["if"] == {"properties": {"enabled": {"const": False}}}
    assert part["then"] == {"$ref": f"#/definitions/{chart}"}


# Amounts


@pytest.mark.parametrize("kind", ["requests", "limits"])
@pytest.mark.parametrize("chart", schemas.RUNNING)
@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("cpu", ["500m", "2", "1.5", "0.25"], ["0", "0m", "0.0", "2Gi", "2k", "m", "1.5m"]),
        ("memory", ["512Mi", "3Gi"], ["10m", "1", "2G", "0Gi", "1.5Gi", "3"]),
    ],
)
def test_an_amount_has_the_units_of_what_it_measures(
    chart: str, kind: str, name: str, right: list[str], wrong: list[str]
) -> None:
    def said(value: str) -> list[str]:
        return refused(chart, schemas.changed(f"resources.{kind}.{name}", value))

    assert [value for value in right if said(value)] == []
    assert [value for value in wrong if not said(value)] == []


@pytest.mark.parametrize(
    ("chart", "path"),
    [
        ("xwiki", "persistence.size"),
        ("mysql", "persistence.size"),
        ("mysql", "persistence.claimTemplateSize"),
    ],
)
def test_a_volume_is_measured_in_binary_units(chart: str, path: str) -> None:
    right, wrong = ["20Gi", "512Mi", "1Ti"], ["20m", "20", "20G", "0Gi", "1.5Gi", "20gi"]
    assert [v for v in right if refused(chart, schemas.changed(path, v))] == []
    assert [v for v in wrong if not refused(chart, schemas.changed(path, v))] == []


# Words and form


@pytest.mark.parametrize("chart", schemas.CHARTS)
def test_every_value_is_explained_once_in_the_same_words(chart: str) -> None:
    words, schema = schemas.explained(chart), schemas.of(chart)
    found = [path for path, _value in schemas.leaves(schemas.defaults(chart))]
    assert len(found) > (30 if chart in schemas.RUNNING else 8)
    assert [path for path in found if path not in words] == []
    told = {path: schemas.at(path, schema)["description"] for path in words}
    assert told == words


@pytest.mark.parametrize("chart", schemas.CHARTS)
def test_no_block_of_a_schema_is_written_twice(chart: str) -> None:
    assert schemas.repeated(schemas.of(chart)) == []


def test_a_block_that_is_written_twice_would_be_noticed() -> None:
    schema = schemas.of("xwiki")
    schema["properties"]["initResources"] = schema["definitions"]["resources"]
    assert len(schemas.repeated(schema)) >= 1


def test_what_several_charts_define_is_the_same() -> None:
    for one, other in itertools.combinations(schemas.RUNNING, 2):
        mine, yours = schemas.of(one)["definitions"], schemas.of(other)["definitions"]
        both = set(mine) & set(yours)
        assert both >= {"cpu", "memory", "port", "tag", "resources", "affinity"}
        assert {name for name in both if mine[name] != yours[name]} == set()


FIXED = {
    # A host excludes the MySQL of the release, the flavor is the one that renders most.
    "xwiki": {"database.host", "ingress.enabled", "bootstrap.enabled", "flavor"},
    "mysql": set[str](),
    # As for the wiki, and its address; what is switched off renders less.
    "backups": {"database.host", "web.url", "canary.enabled", "drill.xar.enabled"},
    # Database and wiki are the release's own, which is what renders most; the port is the pod's.
    # A wiki is in its own room, and a flavor of an archive asks no repository.
    "netpol": {"mysql.cidrs", "xwiki.cidrs", "xwiki.port", "room", "switches.extensions"},
}
"""Where everything.yaml keeps to a default, since another value would render less."""


@pytest.mark.parametrize("chart", schemas.CHARTS)
def test_everything_names_every_value_and_changes_it(chart: str) -> None:
    ours = dict(schemas.leaves(schemas.defaults(chart)))
    theirs = dict(schemas.leaves(schemas.everything(chart)))
    missing = [p for p in ours if not any(t == p or t.startswith(f"{p}.") for t in theirs)]
    assert missing == []
    same = {path for path in ours if theirs.get(path) == ours[path]}
    assert same - FIXED[chart] == set()
