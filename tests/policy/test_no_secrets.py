import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.policy import sweep
from xwiki_stack import policy, repo
from xwiki_stack.render import Manifest

VALUES = ["values.yaml", "charts/*/values.yaml", "values/**/*.yaml", "tests/data/**/*.yaml"]
"""Where people and `generate` write settings."""

SCHEMAS = ["values.schema.json", "charts/*/values.schema.json", "values/schemas/*.json"]
"""What may be set at all."""


def files(patterns: list[str]) -> Iterator[Path]:
    for pattern in patterns:
        found = sorted(repo.ROOT.glob(pattern))
        assert found, pattern
        yield from found


def properties(schema: Any) -> Iterator[Manifest]:
    """Each setting that a schema knows, as if somebody had set it."""
    if isinstance(schema, dict):
        for name in schema.get("properties", {}):
            yield {name: "set"}
        for inner in schema.values():
            yield from properties(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from properties(inner)


def test_no_object_carries_a_secret() -> None:
    sweep.obeyed("no-secrets")


def test_a_secret_in_an_object_is_refused() -> None:
    sweep.refused("no-secrets")


def test_no_values_file_or_intent_holds_a_secret() -> None:
    verdicts = [
        (repo.relative(path), verdict)
        for path in files(VALUES)
        for verdict in policy.values_without_secrets(yaml.safe_load(path.read_text()) or {})
    ]
    assert len(verdicts) > 500
    assert [(path, verdict) for path, verdict in verdicts if verdict.problem] == []


def test_no_chart_takes_a_secret() -> None:
    verdicts = [
        (repo.relative(path), verdict)
        for path in files(SCHEMAS)
        for name in properties(json.loads(path.read_text()))
        for verdict in policy.values_without_secrets(name)
    ]
    assert len(verdicts) > 300
    assert [(path, verdict) for path, verdict in verdicts if verdict.problem] == []


@pytest.mark.parametrize(
    "document",
    [
        {"database": {"existingSecret": "wiki", "passwordKey": "xwiki-password"}},
        {"door": {"server-tokens": False}},
        {"door": {"server-tokens": "false"}},
        {"store": {"url": "https://s3.example.org:9000/bucket"}},
    ],
    ids=str,
)
def test_a_name_a_switch_or_an_address_is_no_secret(document: Manifest) -> None:
    assert not [v for v in policy.values_without_secrets(document) if v.problem]


@pytest.mark.parametrize(
    "document",
    [
        {"mysql": {"rootPassword": "counterexample"}},
        {"mysql": {"password": ""}},
        {"s3": {"secretKey": "counterexample"}},
        {"s3": {"access-key": "counterexample"}},
        {"hook": {"apiToken": "counterexample"}},
        {"users": [{"name": "a"}, {"passwd": "counterexample"}]},
        {"database": {"url": "mysql://xwiki:counterexample@db:3306/xwiki"}},
        {"keys": {"identities": ["AGE-SECRET-KEY-1COUNTEREXAMPLE"]}},
    ],
    ids=str,
)
def test_a_setting_that_holds_or_asks_for_a_secret_is_refused(document: Manifest) -> None:
    assert any(verdict.problem for verdict in policy.values_without_secrets(document))
