"""Intent to values: one template per release, the reason beside each derived number.

The output is committed; `drift` says where it is not what the intent would give. The same input
gives the same bytes.
"""

import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment as Jinja
from jinja2 import FileSystemLoader, StrictUndefined

from xwiki_stack import intent, repo, sizing
from xwiki_stack.errors import RefusedError, UndecidedError
from xwiki_stack.intent import Environment, bytes_of

GENERATED = repo.ROOT / "values" / "generated"
REFERENCE = repo.ROOT / "docs" / "reference" / "intent.md"
SCHEMA = "xwiki"
"""Name of the main wiki's database and of the account that uses it."""

FLAVORS = {
    "none": "An empty wiki: the standard flavor would need the internet.",
    "online": "The standard flavor, by the one egress flow that XWiki gets.",
    "xip": "The standard flavor, from an archive on a claim.",
}
"""Why the wiki begins as it does."""


@dataclass(frozen=True)
class Generated:
    """One file as the intent gives it."""

    path: Path
    text: str


def generate(names: Sequence[str] | None = None, *, preview: bool = False) -> list[Generated]:
    """Render the environments (None: all that are decided) and write what changed.

    preview: write nothing, and render undecided ones too. Gives the written (or rendered) files.
    Raises UndecidedError for a named environment with open blocking decisions, RefusedError for
    a volume that would shrink, IntentError for a mistake in an intent.
    """
    files = _wanted(names, preview=preview)
    if preview:
        return files
    changed = [item for item in files if _present(item.path) != item.text]
    for item in changed:
        item.path.parent.mkdir(parents=True, exist_ok=True)
        item.path.write_text(item.text)
    return changed


def drift(names: Sequence[str] | None = None) -> list[str]:
    """Lines of a unified diff from the committed files to what the intent gives; empty: none.

    names None looks at all decided environments, and at files of those that are not (any more).
    """
    lines: list[str] = []
    for item in _wanted(names, preview=False):
        here = repo.relative(item.path)
        lines += difflib.unified_diff(
            _present(item.path).splitlines(),
            item.text.splitlines(),
            f"{here} (committed)",
            f"{here} (from the intent)",
            lineterm="",
        )
    if names is None:
        decided = {path_of(name) for name in intent.environments() if not _open(name)}
        for path in sorted(set(GENERATED.glob("*/*.yaml")) - decided):
            here = repo.relative(path)
            lines += [f"--- {here} (committed)", "+++ nothing: no decided intent gives this file"]
    return lines


def path_of(name: str) -> Path:
    """Where an environment's generated values lie."""
    return GENERATED / name / "xwiki-stack.yaml"


def text_of(environment: Environment) -> str:
    """The values of one environment."""
    cluster = intent.load_cluster(environment.cluster)
    sizes = sizing.resources(environment)
    blame = f"{repo.relative(environment.path)}: resources"
    host_open = environment.host == intent.UNDECIDED
    line = environment.mysql if environment.mysql != intent.UNDECIDED else "9.7"
    jinja = Jinja(
        loader=FileSystemLoader(repo.ROOT / "values" / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - YAML, not HTML
    )
    rendered = jinja.get_template("xwiki-stack.yaml.j2").render(
        env=environment,
        cluster=cluster,
        sizes=sizes,
        sizing=sizing,
        flavors=FLAVORS,
        origin={
            component: "Spelled out in the intent"
            if component in environment.resources
            else f"Size {environment.size}"
            for component in sizes
        },
        schema=SCHEMA,
        heap=sizing.heap(sizes["xwiki"].limit_memory, f"{blame}.xwiki.limits.memory"),
        pool=sizing.buffer_pool(sizes["mysql"].limit_memory, f"{blame}.mysql.limits.memory"),
        connections=sizing.max_connections(),
        classes=sizing.storage_classes(cluster),
        pinned={name: name in environment.digests for name in ("xwiki", "mysql")},
        xwiki_tag=_tag(f"{environment.xwiki}-mysql-tomcat", environment.digests.get("xwiki")),
        mysql_tag=_tag(intent.MYSQL_LINES[line], environment.digests.get("mysql")),
        published=cluster.ingress != "none" and not host_open,
        unpublished=(
            "Not published: the host is undecided (decision 3)."
            if host_open
            else "Not published: the cluster has no ingress controller."
        ),
        issuer=f"{cluster.issuer}-{'prod' if environment.purpose == 'prod' else 'staging'}",
    )
    return "\n".join(line.rstrip() for line in rendered.splitlines()) + "\n"


def reference() -> str:
    """docs/reference/intent.md out of the schemas."""
    lines = [
        "# The intent files",
        "",
        "Generated from `values/schemas/` by `make generate`; do not edit.",
    ]
    for folder, kind in (("clusters", "cluster"), ("envs", "environment")):
        schema = json.loads((intent.VALUES / "schemas" / f"{kind}.schema.json").read_text())
        lines += ["", f"## `values/{folder}/<name>.yaml`", "", "| key | meaning | allowed |"]
        lines += ["| --- | --- | --- |", *_rows(schema, "", schema)]
    return "\n".join(lines) + "\n"


def _rows(schema: dict[str, Any], prefix: str, root: dict[str, Any]) -> list[str]:
    rows = []
    for key, own in schema["properties"].items():
        item = {**_definition(own, root), **own}
        place = f"{prefix}{key}"
        optional = "" if key in schema.get("required", []) else " (optional)"
        cell = _allowed(item).replace("|", "\\|")
        rows.append(f"| `{place}`{optional} | {item['description']} | {cell} |")
        for choice in [*item.get("oneOf", []), item]:
            if "properties" in choice:
                rows += _rows(choice, f"{place}.", root)
    return rows


def _definition(item: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    name = item.get("$ref", "").removeprefix("#/definitions/")
    found: dict[str, Any] = root["definitions"][name] if name else {}
    return found


def _allowed(item: dict[str, Any]) -> str:
    """What a key may hold: choices, else an example and the form, else the type."""
    if "oneOf" in item:
        return ", or ".join(
            f"`{one['const']}`" if "const" in one else "keys" for one in item["oneOf"]
        )
    if "enum" in item:
        return ", ".join(f"`{value}`" for value in item["enum"])
    kind = {"object": "keys", "boolean": "`true`, `false`"}.get(item["type"], item["type"])
    bounds = [f"{word} {item[word]}" for word in ("minimum", "maximum") if word in item]
    example = [f"e.g. `{item['examples'][0]}`"] if item.get("examples") else []
    form = [f"form `{item['pattern']}`"] if "pattern" in item else []
    return ", ".join([*example, *form] or [kind, *bounds])


def _wanted(names: Sequence[str] | None, *, preview: bool) -> list[Generated]:
    files = []
    for name in names or intent.environments():
        environment = intent.load_environment(name)
        if environment.undecided and not preview:
            if names is None:
                continue
            raise UndecidedError(
                f"{name} has open blocking decisions: {', '.join(environment.undecided)}",
                next=f"`xwiki-stack decisions --env {name}` tells who decides; "
                "`--preview` shows what the rest would give",
            )
        path = path_of(name)
        _refuse_resize(environment, path)
        files.append(Generated(path, text_of(environment)))
    if names is None:
        files.append(Generated(REFERENCE, reference()))
    return files


def _refuse_resize(environment: Environment, path: Path) -> None:
    """Refuse to shrink a volume, or to grow one that cannot grow, against what is committed."""
    try:
        before = yaml.safe_load(_present(path)) or {}
    except yaml.YAMLError:
        before = {}  # edited by hand into something else; it is about to be written anew
    where = repo.relative(environment.path)
    cluster = intent.load_cluster(environment.cluster)
    born = environment.mysql_claim_template
    # Key in the intent, component and key in the values, wanted, can it grow.
    sizes = [
        ("mysql", "mysql", "size", environment.mysql_storage, cluster.expandable),
        ("mysqlClaimTemplate", "mysql", "claimTemplateSize", born, True),
        ("xwiki", "xwiki", "size", environment.xwiki_storage, cluster.expandable),
    ]
    for key, component, value, size, grows in sizes:
        old = _committed(before, component, value) or size
        if bytes_of(size) < bytes_of(old):
            raise RefusedError(
                f"{size} is less than the {old} of the generated values: volumes do not shrink",
                where=f"{where}: storage.{key}",
                next=f"write {old}, or restore a backup into a new, smaller volume",
            )
        if bytes_of(size) > bytes_of(old) and not grows:
            raise RefusedError(
                f"{size} is more than the {old} of the generated values, and the storage driver of "
                f"cluster {environment.cluster} cannot grow volumes",
                where=f"{where}: storage.{key}",
                next=f"write {old}, or for a new install delete {repo.relative(path)}",
            )


def _committed(values: Any, component: str, key: str) -> str:
    """A volume's size as the committed values say it; '' where they were edited into nonsense."""
    for part in (component, "persistence", key):
        values = values.get(part) if isinstance(values, dict) else None
    return values if isinstance(values, str) and intent.is_bytes(values) else ""


def _open(name: str) -> bool:
    return bool(intent.load_environment(name).undecided)


def _tag(version: str, digest: str | None) -> str:
    return f"{version}@{digest}" if digest else version


def _present(path: Path) -> str:
    return path.read_text() if path.is_file() else ""
