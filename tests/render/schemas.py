"""The charts' values, their comments and their schemas, as data for tests."""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from tests import environments
from xwiki_stack import repo

CHARTS = ("xwiki", "mysql", "backups", "netpol")
RUNNING = ("xwiki", "mysql", "backups")
"""Those with pods: they have images, resources and places, and many values."""

Schema = dict[str, Any]


def defaults(chart: str) -> dict[str, Any]:
    """A chart's values.yaml."""
    text = (repo.ROOT / "charts" / chart / "values.yaml").read_text()
    values: dict[str, Any] = yaml.safe_load(text)
    return values


def everything(chart: str) -> dict[str, Any]:
    """The values of a chart with every option at something else than its default."""
    values: dict[str, Any] = yaml.safe_load(environments.EVERYTHING.read_text())[chart]
    return values


def of(chart: str) -> Schema:
    """A chart's schema; '' is the umbrella."""
    folder = repo.ROOT / "charts" / chart if chart else repo.ROOT
    schema: Schema = yaml.safe_load((folder / "values.schema.json").read_text())
    return schema


def leaves(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted paths and values; an empty dict is a leaf."""
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{path}.")
        else:
            yield path, value


def branches(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """The dotted path of every key, those that hold others included."""
    for key, value in values.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from branches(value, f"{prefix}{key}.")


def changed(path: str, value: Any) -> dict[str, Any]:
    """Values with one dotted path set."""
    head, _, rest = path.partition(".")
    return {head: changed(rest, value) if rest else value}


def without(values: dict[str, Any], path: str) -> dict[str, Any]:
    """The values less one dotted path."""
    head, _, rest = path.partition(".")
    if not rest:
        return {key: value for key, value in values.items() if key != head}
    return {**values, head: without(values[head], rest)}


def resolved(node: Any, schema: Schema) -> Schema:
    """A node of a schema with what it refers to; its own description counts."""
    if isinstance(node, dict) and "$ref" in node:
        return {**schema["definitions"][node["$ref"].rpartition("/")[2]], **node}
    return dict(node)


def at(path: str, schema: Schema) -> Schema:
    """The node of a dotted path."""
    node = schema
    for key in path.split("."):
        node = resolved(node["properties"][key], schema)
    return node


def objects(schema: Schema, node: Any = None, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Every object that a schema describes by its dotted path, those inside lists included."""
    here = schema if node is None else resolved(node, schema)
    if here.get("type") == "object":
        yield path, here
    for key, inner in here.get("properties", {}).items():
        yield from objects(schema, inner, f"{path}.{key}".lstrip("."))
    if "items" in here:
        yield from objects(schema, here["items"], f"{path}[]")


def open_objects(schema: Schema) -> set[str]:
    """The paths below which any key passes."""
    return {
        path for path, node in objects(schema) if node.get("additionalProperties", True) is True
    }


def optional(schema: Schema, values: dict[str, Any]) -> list[str]:
    """The values that a schema would not miss."""
    found = []
    for path in branches(values):
        parent, _, key = path.rpartition(".")
        node = at(parent, schema) if parent else schema
        if "properties" in node and key not in node.get("required", []):
            found.append(path)
    return found


def repeated(schema: Schema) -> list[str]:
    """The blocks of two properties and more that stand in a schema twice, words left aside."""
    seen: dict[str, str] = {}
    found = []

    def bare(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: bare(value) for key, value in node.items() if key != "description"}
        return [bare(item) for item in node] if isinstance(node, list) else node

    def look(node: Any, path: str) -> None:
        if not isinstance(node, dict):
            return
        if len(node.get("properties", {})) > 1:
            block = repr(bare(node))
            if block in seen:
                found.append(f"{path} is {seen[block]}")
            seen.setdefault(block, path)
        for key, inner in node.items():
            look(inner, f"{path}/{key}")

    look(schema, "")
    return found


def keys(node: Any, definitions: Schema) -> Any:
    """What is left of a schema when only the names of keys count; True where any will do."""
    if "$ref" in node:
        kept = keys(definitions[node["$ref"].rpartition("/")[2]], definitions)
        return kept if kept is True else {"$ref": node["$ref"]}
    if "items" in node:
        inner = keys(node["items"], definitions)
        return inner if inner is True else {"items": inner}
    if node.get("additionalProperties") is not False:
        return True
    inside = {key: keys(inner, definitions) for key, inner in node["properties"].items()}
    return {"additionalProperties": False, "properties": inside}


def explained(chart: str) -> dict[str, str]:
    """Dotted path to the words of the comment `# -- ...` above it, in a chart's values.yaml."""
    found: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    words: list[str] = []
    for line in (repo.ROOT / "charts" / chart / "values.yaml").read_text().splitlines():
        text, depth = line.strip(), len(line) - len(line.lstrip())
        if text.startswith("#"):
            words.append(text.lstrip("# -"))
        elif match := re.match(r"([\w-]+):", text):
            above = [item for item in above if item[0] < depth] + [(depth, match[1])]
            if words:
                found[".".join(key for _, key in above)] = " ".join(words)
            words = []
        else:
            words = []
    return found
