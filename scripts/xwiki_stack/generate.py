"""Intent to values and to the tree of Flux: one template each, the reason beside each number.

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

from xwiki_stack import flows, gitops, intent, mutation, render, repo, sizing, templates
from xwiki_stack.backup import rewrite
from xwiki_stack.errors import IntentError, RefusedError, UndecidedError
from xwiki_stack.intent import Cluster, Environment, bytes_of
from xwiki_stack.secrets import rules

ROOT = repo.ROOT
"""Where generated files go: the checkout."""

GENERATED = repo.ROOT / "values" / "generated"
MARK = "# Generated from "
"""What a generated file among others begins with."""

REFERENCE = repo.ROOT / "docs" / "reference" / "intent.md"
NETWORK = flows.PAGE
SCHEMA = "xwiki"
"""Name of the main wiki's database and of the account that uses it."""

_ENCRYPTION = {"SSE-S3": "AES256", "SSE-KMS": "aws:kms"}
"""The intent's word for the store's own encryption to S3's."""

_NO_BACKUPS = (
    "No backups: the intent lacks the target, the promise (rpo), who can open sets (recipients) or"
    " whose signatures count (trusted)."
)

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


@dataclass(frozen=True)
class Outcome:
    """What `generate` did: files written and removed, environments skipped as undecided."""

    written: list[Path]
    removed: list[Path]
    skipped: list[str]


def generate(names: Sequence[str] | None = None) -> Outcome:
    """Write what the environments give and what changed of it; None: all that are decided.

    With None, files of environments that are not decided (any more) are removed: they are output,
    never edited. Raises UndecidedError for a named environment with open blocking decisions,
    RefusedError for a volume that would shrink or change its class, IntentError for a mistake in
    an intent.
    """
    files, skipped = _wanted(names)
    stale = _stale(files) if names is None else []
    changed = [item for item in files if _present(item.path) != item.text]
    for item in changed:
        item.path.parent.mkdir(parents=True, exist_ok=True)
        item.path.write_text(item.text)
    for path in stale:
        path.unlink()
    return Outcome([item.path for item in changed], stale, skipped)


def preview(names: Sequence[str] | None = None) -> list[Generated]:
    """Values of the environments (None: all), undecided or not; nothing is written."""
    wanted = names or intent.environments()
    return [_generated(intent.load_environment(name)) for name in wanted]


def rendered(name: str, *, preview: bool = False) -> str:
    """The objects of an environment as Helm prints them: with the committed values, or those that
    the intent gives now.

    Raises UndecidedError where there are no committed values, IntentError for an unknown one.
    """
    environment = intent.load_environment(name)
    values: list[render.Values] = [path_of(name)]
    if preview:
        values = [yaml.safe_load(_generated(environment).text)]
    elif not path_of(name).is_file() and environment.undecided:
        raise UndecidedError(
            f"{name} has open blocking decisions: {', '.join(environment.undecided)}",
            next="`--preview` shows what the rest would give",
        )
    return render.helm_template_text(values=values, namespace=environment.namespace)


def drift(names: Sequence[str] | None = None) -> list[str]:
    """Lines of a unified diff from the committed files to what the intent gives; empty: none.

    names None looks at all decided environments, and at files of those that are not (any more).
    """
    files, _skipped = _wanted(names)
    lines: list[str] = []
    for item in files:
        here = repo.relative(item.path)
        lines += difflib.unified_diff(
            _present(item.path).splitlines(),
            item.text.splitlines(),
            f"{here} (committed)",
            f"{here} (from the intent)",
            lineterm="",
        )
    for path in _stale(files) if names is None else []:
        here = repo.relative(path)
        lines += [f"--- {here} (committed)", "+++ nothing: no decided intent gives this file"]
    for path in _foreign() if names is None else []:
        here = repo.relative(path)
        lines += [f"--- {here} (by hand)", "+++ nothing: beside *.sops.yaml all here is generated"]
    return lines


def path_of(name: str) -> Path:
    """Where an environment's generated values lie."""
    return GENERATED / name / "xwiki-stack.yaml"


def text_of(environment: Environment, cluster: Cluster) -> str:
    """The values of one environment on its cluster."""
    sizes = sizing.resources(environment)
    blame = f"{repo.relative(environment.path)}: resources"
    host_open = intent.is_undecided(environment.host)
    line = environment.mysql if environment.mysql != intent.UNDECIDED else "9.7"
    return templates.text(
        "xwiki-stack.yaml.j2",
        env=environment,
        cluster=cluster,
        sizes=sizes,
        sizing=sizing,
        flavors=FLAVORS,
        volumes=sizing.volumes(environment, cluster),
        claim_template=sizing.claim_template(environment),
        origin=lambda given, component: (
            "Spelled out in the intent" if component in given else f"Size {environment.size}"
        ),
        schema=SCHEMA,
        heap=sizing.heap(sizes["xwiki"].limit_memory, f"{blame}.xwiki.limits.memory"),
        pool=sizing.buffer_pool(sizes["mysql"].limit_memory, f"{blame}.mysql.limits.memory"),
        connections=sizing.max_connections(sizes["mysql"].limit_memory),
        pinned={name: name in environment.digests for name in ("xwiki", "mysql")},
        xwiki_tag=_tag(f"{environment.xwiki}-mysql-tomcat", environment.digests.get("xwiki")),
        mysql_tag=_tag(intent.MYSQL_LINES[line], environment.digests.get("mysql")),
        host_origin=(
            "Derived from the cluster's domain"
            if environment.host == intent.host_of(environment.name, cluster)
            else "As the intent says"
        ),
        published=cluster.ingress != "none" and not host_open,
        unpublished=(
            "Not published: the host is undecided (decision 3)."
            if host_open
            else "Not published: the cluster has no ingress controller."
        ),
        backups=_backups(environment, cluster),
        no_backups=_NO_BACKUPS,
        host_open=host_open,
        mail_off=rewrite.MAIL_OFF,
        foreign_hosts=intent.other_hosts(environment),
        issuer=gitops.issuer_of(cluster, environment),
    )


def cluster_files(cluster: Cluster, environments: Sequence[Environment]) -> list[Generated]:
    """What Flux takes on a cluster: values of every release, and its tree.

    environments: all that the cluster carries, undecided ones too: they are named and left out.
    """
    made = gitops.files(cluster, environments, ROOT / "flux")
    return [Generated(ROOT / path, text) for path, text in made.items()]


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
        return ", or ".join(map(_allowed, item["oneOf"]))
    if "const" in item:
        return f"`{item['const']}`"
    if "enum" in item:
        return ", ".join(f"`{value}`" for value in item["enum"])
    kind = {"object": "keys", "boolean": "`true`, `false`"}.get(item["type"], item["type"])
    bounds = [f"{word} {item[word]}" for word in ("minimum", "maximum") if word in item]
    example = [f"e.g. `{item['examples'][0]}`"] if item.get("examples") else []
    form = [f"form `{item['pattern']}`"] if "pattern" in item else []
    return ", ".join([*example, *form] or [kind, *bounds])


def _wanted(names: Sequence[str] | None) -> tuple[list[Generated], list[str]]:
    """The files as they should be, and the environments that give none as they are undecided."""
    files, skipped = [], []
    for name in names or intent.environments():
        environment = intent.load_environment(name)
        if not environment.undecided:
            files.append(_generated(environment))
        elif names is None:
            skipped.append(name)
        else:
            raise UndecidedError(
                f"{name} has open blocking decisions: {', '.join(environment.undecided)}",
                next=f"`xwiki-stack decisions --env {name}` tells who decides; "
                "`--preview` shows what the rest would give",
            )
    if names is None:
        for name in intent.clusters():
            carried = intent.environments_of(name)
            # The cluster of `make up` is nobody's to reconcile.
            if any(environment.purpose != "local" for environment in carried):
                files += cluster_files(intent.load_cluster(name), carried)
        files.append(Generated(REFERENCE, reference()))
        files.append(Generated(NETWORK, flows.page(flows.load(), mutation.lines())))
        files.append(Generated(ROOT / rules.FILE, rules.text()))
    return files, skipped


def _generated(environment: Environment) -> Generated:
    """The values file of an environment, checked against its neighbours and what is committed."""
    cluster = intent.load_cluster(environment.cluster)
    path = path_of(environment.name)
    intent.refuse_shared_host(environment)
    _refuse_other_volumes(environment, cluster, path)
    return Generated(path, text_of(environment, cluster))


def _backups(environment: Environment, cluster: Cluster) -> dict[str, Any]:
    """What the template says of backups; nothing where a part of it is not decided yet."""
    said = environment.backups
    if not environment.saved:
        return {}
    rpo, rto = (
        0 if intent.is_undecided(said.get(key, intent.UNDECIDED)) else int(said[key].rstrip("h"))
        for key in ("rpo", "rto")
    )
    drills, source = said.get("drills", ""), _source(environment)
    return {
        **said,
        "rpo": rpo,
        "rto": rto,
        "promised": sizing.DRILLS.get(drills),
        "source": source,
        "volume": sizing.drill_volume(sizing.volumes(environment, cluster)),
        # The records of drills lie where the sets do, so they are missed there.
        "alerts": sizing.alerts(rpo, rto, "" if source else drills),
        "encryption": _ENCRYPTION[said["target"]["encryption"]],
        "port": sizing.port(
            said["target"]["endpoint"],
            f"{repo.relative(environment.path)}: backups.target.endpoint",
        ),
        "schedules": sizing.schedules(rpo),
        "patience": sizing.patience(rto),
        "retention": sizing.retention(int(said["target"]["retentionDays"]), rpo),
    }


def _source(environment: Environment) -> dict[str, Any]:
    """Whose sets are tried here, as the chart wants it; nothing where they are its own.

    Raises IntentError where that environment is unknown or its sets lie in another store.
    """
    name = environment.backups.get("drillsOf", "")
    if not name:
        return {}
    other = intent.load_environment(name, environment.path.parents[1])
    if not other.saved:
        return {}
    here, there = environment.backups["target"], other.backups["target"]
    if any(here[key] != there[key] for key in ("endpoint", "region")):
        raise IntentError(
            f"the sets of {name} lie at {there['endpoint']}, those of this one elsewhere",
            where=f"{repo.relative(environment.path)}: backups.drillsOf",
            next="name the same endpoint and region in both, or leave it out",
        )
    return {
        "environment": name,
        "bucket": there["bucket"],
        "prefix": there.get("prefix", name),
        "trusted": other.backups["trusted"],
    }


def _stale(files: Sequence[Generated]) -> list[Path]:
    """Generated files that none of the wanted ones replaces."""
    found = set(GENERATED.glob("*/*.yaml"))
    # Beside hand-made ones: sealed Secrets, the releases themselves.
    found |= {path for path in (ROOT / "flux").rglob("*.yaml") if _present(path).startswith(MARK)}
    return sorted(found - {item.path for item in files})


def _foreign() -> list[Path]:
    """Files by hand where all but sealed Secrets is generated: of prod before it is decided, say.

    They are not removed, since nobody could write them anew.
    """
    found = [path for top in ("clusters", "apps") for path in (ROOT / "flux" / top).rglob("*.y*ml")]
    return sorted(
        path
        for path in found
        if not path.name.endswith(".sops.yaml") and not _present(path).startswith(MARK)
    )


def _refuse_other_volumes(environment: Environment, cluster: Cluster, path: Path) -> None:
    """Refuse what no claim can follow: to shrink, to change its class, to grow where it cannot.

    The committed values stand for the claims: they are what was installed.
    """
    try:
        before = yaml.safe_load(_present(path)) or {}
    except yaml.YAMLError:
        before = {}  # edited by hand into something else; it is about to be written anew
    where = repo.relative(environment.path)
    anew = f"for a new install delete {repo.relative(path)}"
    volumes, born = sizing.volumes(environment, cluster), sizing.claim_template(environment)
    for component, volume in volumes.items():
        old = intent.at(before, component, "persistence", "storageClass")
        if isinstance(old, str) and old != volume.storage_class:
            raise RefusedError(
                f"the class of {component}'s volume would change from {old!r} to "
                f"{volume.storage_class!r}: a claim keeps the class it was born with",
                where=f"values/clusters/{cluster.name}.yaml: storage.driver",
                next=f"keep the driver, or restore a backup into a new environment; {anew}",
            )
    # Key in the intent, component and key in the values, wanted, can it grow.
    sizes = [
        ("mysql", "mysql", "size", volumes["mysql"].size, cluster.expandable),
        ("mysqlClaimTemplate", "mysql", "claimTemplateSize", born, True),
        ("xwiki", "xwiki", "size", volumes["xwiki"].size, cluster.expandable),
    ]
    for key, component, value, size, grows in sizes:
        old = intent.at(before, component, "persistence", value)
        if not (isinstance(old, str) and intent.is_bytes(old)):
            continue  # not there yet, or edited by hand into nonsense
        if bytes_of(size) < bytes_of(old):
            raise RefusedError(
                f"{size} is less than the {old} of the generated values: volumes do not shrink",
                where=f"{where}: storage.{key}",
                next=f"write {old}, or restore a backup into a new, smaller volume",
            )
        if bytes_of(size) > bytes_of(old) and not grows:
            raise RefusedError(
                f"{size} is more than the {old} of the generated values, and the storage driver of "
                f"cluster {cluster.name} cannot grow volumes",
                where=f"{where}: storage.{key}",
                next=f"write {old}, or {anew}",
            )


def _tag(version: str, digest: str | None) -> str:
    return f"{version}@{digest}" if digest else version


def _present(path: Path) -> str:
    return path.read_text(errors="replace") if path.is_file() else ""
