"""What people decide: facts of clusters, intents of environments; loaded, checked, explained."""

import difflib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft7Validator, ValidationError

from xwiki_stack import loader, repo
from xwiki_stack.errors import IntentError

VALUES = repo.ROOT / "values"
UNDECIDED = "undecided"
LOCALHOST = "localhost"

BLOCKING = {
    "mysql": 1,
    "backups.target": 2,
    "backups.recipients": 2,
    "backups.trusted": 2,
    "host": 3,
    "backups.rpo": 4,
    "backups.rto": 4,
    "backups.drills": 4,
    "images.mysql": 10,
    "images.xwiki": 10,
}
"""Key of an intent, and the blocking decision that it takes: four of the mission (section 12), and
10, which we made one, since an image that is not pinned is another one tomorrow."""

MYSQL_LINES = {"9.7": "9.7.1", "8.4": "8.4.10"}
"""Allowed LTS line to the image tag it means (newest official tags known when written)."""

XWIKI_MINIMUM = ((17, 10, 12), (18, 4, 4), (18, 7, 0))
"""Lowest release of each line that runs on a read-only root file system (XDOCKER-417, -427)."""

_NAMESPACE = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+")
_CPU = re.compile(r"[0-9]+m?")
_MEMORY = re.compile(r"[0-9]+(Mi|Gi)")
_UNDECIDED_WORD = re.compile(rf"\b{UNDECIDED}\b", re.IGNORECASE)


@dataclass(frozen=True)
class Cluster:
    """Facts of a cluster.

    `cpu`, `memory` and `disk` are what each node offers to pods and volumes: cores, bytes, bytes.
    `domain` is that of its host names, or `undecided`. `backups` is the S3 target of volume backups
    (bucket, region), empty while undecided; `email` is empty while undecided. `ttl` is in seconds.
    `recipients` are the age keys that open its Secrets, none before anybody holds a key.
    """

    name: str
    project: str
    nodes: int
    cpu: float
    memory: int
    disk: int
    driver: str
    expandable: bool
    ingress: str
    ingress_class: str
    issuer: str
    domain: str
    dns: str
    metrics: bool
    logs: str
    backups: dict[str, str]
    challenge: str
    email: str
    ttl: int
    receivers: str
    secrets: dict[str, str]
    recipients: tuple[str, ...] = ()


@dataclass(frozen=True)
class Environment:
    """An intent. `open_keys` are those a blocking decision leaves open, with its number.

    What has a component as key holds only what the intent says of it; `resources` and `storage`
    replace numbers of `size`.
    """

    name: str
    path: Path
    cluster: str
    purpose: str
    namespace: str
    host: str
    xwiki: str
    mysql: str
    size: str
    resources: dict[str, dict[str, dict[str, str]]]
    storage: dict[str, str]
    flavor: str
    outside: dict[str, dict[str, Any]]
    xip: dict[str, str]
    secret_revision: dict[str, str]
    digests: dict[str, str]
    backups: dict[str, Any]
    maintenance_window: str
    open_keys: dict[str, int]

    @property
    def undecided(self) -> tuple[str, ...]:
        """The open blocking decisions as `key (decision N)`; only prod waits for them."""
        if self.purpose != "prod":
            return ()
        return tuple(f"{key} (decision {number})" for key, number in self.open_keys.items())

    @property
    def saved(self) -> bool:
        """Whether all is decided that backups need."""
        open_parts = {key.split(".")[1] for key in self.open_keys if "." in key}
        return not open_parts & {"target", "rpo", "recipients", "trusted"}

    @property
    def drills(self) -> str:
        """How often restores are tried here, "" for never: in staging, once there are backups."""
        often = self.backups.get("drills", UNDECIDED)
        return often if self.saved and self.purpose == "staging" and often != UNDECIDED else ""


@dataclass(frozen=True)
class Mistake:
    """One mistake of a file: the path in it, what is wrong, what is allowed, what to do."""

    place: str
    what: str
    allowed: str = ""
    next: str = ""


def environments() -> list[str]:
    """Names of all environments."""
    return _names(VALUES, "envs")


def clusters() -> list[str]:
    """Names of all clusters."""
    return _names(VALUES, "clusters")


def environments_of(cluster: str, values: Path = VALUES) -> list[Environment]:
    """The intents that a cluster carries, by name."""
    every = (load_environment(name, values) for name in _names(values, "envs"))
    return [environment for environment in every if environment.cluster == cluster]


def load_cluster(name: str, values: Path = VALUES) -> Cluster:
    """A cluster's facts. Raises IntentError with every mistake of the file."""
    document, where = _read(values, "clusters", name, "cluster")
    mistakes = [*_misfits(document, "cluster"), *_unfounded(document)]
    _refuse(where, _reference("cluster"), mistakes)
    nodes, ingress = document["nodes"], document["ingress"]
    volumes, certificates = document["storage"].get("backups"), document.get("certificates", {})
    email = certificates.get("email", UNDECIDED)
    return Cluster(
        name=name,
        project=document["project"],
        nodes=nodes["count"],
        cpu=cores_of(nodes["cpu"]),
        memory=bytes_of(nodes["memory"]),
        disk=bytes_of(nodes["disk"]),
        driver=document["storage"]["driver"],
        expandable=document["storage"]["expandable"],
        ingress=ingress["controller"],
        ingress_class=ingress.get("className", ""),
        issuer=ingress.get("issuer", ""),
        domain=document.get("domain", UNDECIDED),
        dns=document["dns"]["provider"],
        metrics=document["observability"]["metrics"],
        logs=document["observability"]["logs"],
        backups=volumes if isinstance(volumes, dict) else {},
        challenge=certificates.get("challenge", "http"),
        email="" if is_undecided(email) else email,
        ttl=document["dns"].get("ttl", 3600),
        receivers=document["observability"].get("receivers", "alertmanager-config"),
        secrets={
            "path": "kv",
            "role": "xwiki-stack",
            **document.get("secrets", {"backend": "sops"}),
        },
        recipients=tuple(document.get("secrets", {}).get("recipients", ())),
    )


def load_cluster_of(env: str) -> Cluster:
    """The facts of the cluster that carries an environment."""
    return load_cluster(load_environment(env).cluster)


def load_environment(name: str, values: Path = VALUES) -> Environment:
    """An environment's intent. Raises IntentError with every mistake of the file."""
    document, where = _read(values, "envs", name, "environment")
    clusters = _names(values, "clusters")
    mistakes = [*_misfits(document, "environment"), *_contradictions(document, name, clusters)]
    _refuse(where, _reference("environment"), mistakes)
    cluster = load_cluster(document["cluster"], values)
    _refuse(where, _reference("environment"), _misplaced(document, cluster))
    namespace = f"{cluster.project}-{name}"
    if not _NAMESPACE.fullmatch(namespace):
        raise IntentError(
            f"{namespace!r} cannot be a namespace",
            where=where,
            allowed="up to 63 small letters, digits and dashes",
            next="rename the file",
        )
    derived = LOCALHOST if document["purpose"] == "local" else host_of(name, cluster)
    document = {"host": derived, **document}
    return Environment(
        name=name,
        path=values / "envs" / f"{name}.yaml",
        cluster=document["cluster"],
        purpose=document["purpose"],
        namespace=namespace,
        host=document["host"],
        xwiki=document["xwiki"],
        mysql=document["mysql"],
        size=document["size"],
        resources=document.get("resources", {}),
        storage=document.get("storage", {}),
        flavor=document["flavor"],
        outside=document.get("outside", {}),
        xip=document.get("xip", {}),
        secret_revision=document.get("secretRevision", {}),
        digests=document.get("images", {}),
        backups=document.get("backups", {}),
        maintenance_window=document.get("maintenanceWindow", UNDECIDED),
        open_keys={
            place: number
            for key, number in BLOCKING.items()
            for place in _open_places(key, at(document, *key.split(".")))
        },
    )


def read_checked(path: Path, schema: dict[str, Any], reference: str) -> Any:
    """What a YAML file says, if it fits a JSON schema (draft 7).

    reference: where all keys are explained. Raises IntentError with every mistake of the file.
    """
    where = repo.relative(path)
    try:
        document = _parse(path, where)
    except OSError as error:
        raise IntentError(f"cannot be read: {error.strerror}", where=where) from error
    _refuse(where, reference, _unfitting(document, schema))
    return document


def at(document: Any, *place: str) -> Any:
    """What stands at a path of keys; None where nothing does."""
    for part in place:
        document = document.get(part) if isinstance(document, dict) else None
    return document


def host_of(name: str, cluster: Cluster) -> str:
    """The host that an environment has where its intent names none, or `undecided`."""
    if is_undecided(cluster.domain):
        return UNDECIDED
    return f"xwiki.{cluster.domain}" if name == "prod" else f"xwiki-{name}.{cluster.domain}"


def is_undecided(value: str) -> bool:
    """Whether a value says that it is none yet, be it a part of a longer text."""
    return bool(_UNDECIDED_WORD.search(value))


def refuse_versions(mysql: str, xwiki: str, where: str) -> None:
    """Raise IntentError for a line of MySQL or a release of XWiki that no intent may name."""
    _refuse(where, _reference("environment"), _old_versions(mysql, xwiki))


def refuse_shared_host(environment: Environment) -> None:
    """Raise IntentError when another environment of the cluster has the same public host."""
    if environment.host == LOCALHOST or is_undecided(environment.host):
        return
    values = environment.path.parents[1]
    for name in _names(values, "envs"):
        other = load_environment(name, values)
        if name != environment.name and (other.cluster, other.host) == (
            environment.cluster,
            environment.host,
        ):
            raise IntentError(
                f"{environment.host} is also the host of {name}, on the same cluster",
                where=f"{repo.relative(environment.path)}: host",
                next="give one of them another name, or leave host out: it is derived",
            )


def other_hosts(environment: Environment) -> list[str]:
    """Public hosts of the other environments, on whichever cluster, as far as they are decided."""
    values = environment.path.parents[1]
    others = [load_environment(n, values) for n in _names(values, "envs") if n != environment.name]
    hosts = {other.host for other in others if not is_undecided(other.host)}
    return sorted(hosts - {LOCALHOST, environment.host})


def _open_places(place: str, value: Any) -> Iterator[str]:
    """The place itself where nothing is decided, or the places in it that are left open."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _open_places(f"{place}.{key}", inner)
    elif value is None or is_undecided(str(value)):
        yield place


def _unfounded(document: Any) -> Iterator[Mistake]:
    """Facts of a cluster that lean on others which are not there."""
    dns, domain = at(document, "dns", "provider"), at(document, "domain") or UNDECIDED
    if at(document, "certificates", "challenge") == "dns" and (
        dns == "none" or is_undecided(str(domain))
    ):
        yield Mistake(
            "certificates.challenge",
            "a DNS challenge writes records, and "
            + ("nobody serves the zone" if dns == "none" else "the zone is undecided"),
            "http",
            "write http, or dns.provider and domain",
        )
    if at(document, "storage", "driver") == "local-path" and at(document, "storage", "backups"):
        yield Mistake(
            "storage.backups",
            "only Longhorn backs volumes up",
            next="leave it out; sets of backups are the environments' matter",
        )
    if at(document, "secrets", "backend") == "sops" and at(document, "secrets", "server"):
        yield Mistake(
            "secrets.server",
            "a server that nobody would ask: the backend is sops",
            next="leave it out, or write backend: vault",
        )


def _misplaced(document: dict[str, Any], cluster: Cluster) -> Iterator[Mistake]:
    """A wiki that may be deleted has no place among those that may not.

    The other way round is fine: a k3s of one node may well carry prod on local-path.
    """
    if document["purpose"] == "local" and cluster.driver != "local-path":
        yield Mistake(
            "purpose",
            f"'local' is for the cluster of `make up`; {cluster.name} stores on {cluster.driver}",
            "staging, prod",
            "write one of them, or name a cluster whose storage is local-path",
        )


def _contradictions(document: Any, name: str, clusters: list[str]) -> Iterator[Mistake]:
    """What no schema can say: versions, neighbours, numbers that must fit each other.

    Looks only at values of the right form; the schema speaks about the others.
    """

    def said(*place: str) -> str:
        value = at(document, *place)
        return value if isinstance(value, str) else ""

    cluster, purpose, host = said("cluster"), said("purpose"), said("host")
    if cluster and cluster not in clusters:
        yield Mistake(
            "cluster",
            f"{cluster!r} is no cluster{_near(cluster, clusters)}",
            ", ".join(clusters),
            f"name one of them, or write values/clusters/{cluster}.yaml",
        )
    yield from _misnamed(purpose, name)
    if said("backups", "drillsOf") and purpose in ("local", "prod"):
        yield Mistake(
            "backups.drillsOf",
            "only staging tries restores",
            next="write it into the intent of staging, or leave it out",
        )
    if purpose in ("staging", "prod") and host and "." not in host and host != UNDECIDED:
        yield Mistake(
            "host",
            f"{host!r} is no public name",
            f"a name with a dot, or {UNDECIDED}",
            "write the name visitors will type",
        )
    if said("mysql") == UNDECIDED and purpose in ("local", "staging"):
        yield Mistake("mysql", "only prod may wait for it", next='write "9.7", the tested line')
    yield from _old_versions(said("mysql"), said("xwiki"))
    if said("flavor") == "xip" and "xip" not in document:
        yield Mistake(
            "xip",
            "flavor is xip and nothing says where the archive lies",
            next="add xip.claim and xip.path",
        )
    for component in ("xwiki", "mysql"):
        for kind, form, number in (("cpu", _CPU, cores_of), ("memory", _MEMORY, bytes_of)):
            request = said("resources", component, "requests", kind)
            limit = said("resources", component, "limits", kind)
            fit = form.fullmatch(request) and form.fullmatch(limit)
            if fit and number(request) > number(limit):
                yield Mistake(
                    f"resources.{component}.requests.{kind}",
                    f"{request} is more than the limit of {limit}",
                    next="lower it, or raise the limit",
                )


def _misnamed(purpose: str, name: str) -> Iterator[Mistake]:
    """The gate of prod hangs on the purpose, so the name of the file must not say another one."""
    if purpose == "prod" and not name.startswith("prod"):
        yield Mistake(
            "purpose",
            f"production has a name that begins with prod, not {name!r}",
            next=f"rename the file, e.g. prod-{name}.yaml, or write another purpose",
        )
    if purpose in ("local", "staging") and name.startswith("prod"):
        yield Mistake(
            "purpose",
            f"{name!r} is production by its name, which {purpose!r} would let past its decisions",
            "prod",
            "write prod, or rename the file",
        )


def _old_versions(mysql: str, xwiki: str) -> Iterator[Mistake]:
    if mysql not in ("", UNDECIDED, *MYSQL_LINES):
        inside = next((known for known in MYSQL_LINES if mysql.startswith(f"{known}.")), "")
        yield Mistake(
            "mysql",
            f"MySQL {mysql} is a single release of an LTS line; the line is what is decided"
            if inside
            else f"MySQL {mysql} is no LTS line; innovation releases soon get no more fixes",
            ", ".join(f'"{known}"' for known in MYSQL_LINES),
            f'write "{inside}"' if inside else 'write "9.7", the tested one',
        )
    if not _VERSION.fullmatch(xwiki):
        return
    wanted = tuple(int(part) for part in xwiki.split("."))
    floor = next((low for low in XWIKI_MINIMUM if low[:2] == wanted[:2]), XWIKI_MINIMUM[-1])
    if wanted < floor:
        text = ", ".join(".".join(map(str, low)) for low in XWIKI_MINIMUM)
        yield Mistake(
            "xwiki",
            f"XWiki {xwiki} does not run without root on a read-only file system",
            f"at least {text}",
            "write 17.10.13, the tested LTS release",
        )


def _refuse(where: str, reference: str, mistakes: Iterable[Mistake]) -> None:
    """Raise IntentError for all mistakes of a file together, in one line."""
    found = list(dict.fromkeys(mistakes))
    if not found:
        return
    if len(found) == 1:
        (only,) = found
        raise IntentError(
            only.what,
            where=f"{where}: {only.place}",
            allowed=only.allowed,
            next=only.next or f"{reference} has it all",
        )
    lines = [
        f"{item.place}: {item.what}" + (f" (allowed: {item.allowed})" if item.allowed else "")
        for item in found
    ]
    raise IntentError(
        f"{len(found)} mistakes: {' | '.join(lines)}",
        where=where,
        next=f"{reference} has it all",
    )


def _names(values: Path, folder: str) -> list[str]:
    return sorted(path.stem for path in (values / folder).glob("*.yaml"))


def _near(given: object, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(given), list(known), 1)
    return f", did you mean {near[0]!r}?" if near else ""


def _read(values: Path, folder: str, name: str, kind: str) -> tuple[Any, str]:
    """What a file says, unchecked, and its name for messages."""
    known = _names(values, folder)
    path = values / folder / f"{name}.yaml"
    where = repo.relative(path)
    if name not in known:  # not "no such file": a name is no path
        raise IntentError(
            f"there is no {kind} {name!r}{_near(name, known)}",
            where=repo.relative(values / folder),
            allowed=", ".join(known),
            next="name one of them, or write its file",
        )
    return _parse(path, where), where


class _Loader(loader.Loader):
    """YAML as people mean it: a key given twice is a mistake, not a silent choice."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key, _value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(
                None, None, "a key must be one word", key.start_mark
            )
        if key.value in seen:
            line = key.start_mark.line + 1
            raise yaml.constructor.ConstructorError(
                None, None, f"key {key.value!r} stands twice (line {line})", key.start_mark
            )
        seen.add(key.value)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _parse(path: Path, where: str) -> Any:
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - safe
    except yaml.MarkedYAMLError as broken:
        line = broken.problem_mark.line + 1 if broken.problem_mark else 0
        raise IntentError(
            f"not YAML: {_one_line(broken.problem)}",
            where=f"{where}:{line}",
            next="correct that line",
        ) from broken
    # No text at all, a character YAML forbids, or a date such as 2026-13-45: all without a line.
    except (yaml.YAMLError, ValueError) as broken:
        raise IntentError(
            f"not YAML: {_one_line(broken)}", where=where, next="write plain UTF-8 YAML"
        ) from broken


def _one_line(words: object) -> str:
    return " ".join(str(words).split())


def _misfits(document: Any, kind: str) -> Iterator[Mistake]:
    """What the published schema refuses, in the order of the file's paths."""
    schema = json.loads((VALUES / "schemas" / f"{kind}.schema.json").read_text())
    yield from _unfitting(document, schema)


def _reference(kind: str) -> str:
    return f"values/schemas/{kind}.schema.json"


def _unfitting(document: Any, schema: dict[str, Any]) -> Iterator[Mistake]:
    """What a schema refuses, in the order of the file's paths."""
    if document is None:
        document = {}  # an empty file lacks every key; say which
    for error in sorted(Draft7Validator(schema).iter_errors(document), key=_place):
        yield from _words(error)


def _place(error: ValidationError) -> str:
    return ".".join(str(part) for part in error.absolute_path)


def _words(error: ValidationError) -> Iterator[Mistake]:
    """A schema's complaint as a person would say it, with the nearest allowed word."""
    place = _place(error)
    # A rule's own value and the value it looks at; jsonschema types both as anything or unset.
    rule: Any = error.validator_value
    given: Any = error.instance
    dot = f"{place}." if place else ""
    schema: dict[str, Any] = dict(error.schema) if isinstance(error.schema, dict) else {}
    if error.validator == "additionalProperties":
        known = sorted(schema["properties"])
        for key in (key for key in given if key not in known):
            yield Mistake(
                f"{dot}{_one_line(key)}", f"unknown key{_near(key, known)}", ", ".join(known)
            )
    elif error.validator == "required":
        for key in (key for key in rule if key not in given):
            text = schema.get("properties", {}).get(key, {}).get("description", "")
            yield Mistake(f"{dot}{key}", "is missing" + (f" ({text.rstrip('.')})" if text else ""))
    elif error.validator == "enum":
        choices = [_plain(choice) for choice in rule]
        yield Mistake(place, f"{given!r} is not allowed{_near(given, choices)}", ", ".join(choices))
    elif error.validator == "type" and rule == "object":
        known = sorted(schema.get("properties", {}))
        yield Mistake(place or "file", f"{given!r} is no set of keys", ", ".join(known))
    elif error.validator == "oneOf" and isinstance(given, dict):
        for inner in sorted(error.context or (), key=_place):
            if inner.validator != "const":  # the other choice, a single word
                yield from _words(inner)
    else:
        text = schema.get("description", _one_line(error.message)).rstrip(".")
        example = f", e.g. {schema['examples'][0]}" if schema.get("examples") else ""
        yield Mistake(
            place or "file", f"{given!r} does not fit{_meant(given, schema)}", f"{text}{example}"
        )


def _plain(value: object) -> str:
    """A value as YAML writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _meant(given: object, schema: dict[str, Any]) -> str:
    """What was probably meant: the same number in quotes, or with the nearest unit that fits."""
    wanted = schema.get("type")
    if wanted == "string" and isinstance(given, int | float) and not isinstance(given, bool):
        quoted = str(given)
        if re.search(schema.get("pattern", ""), quoted):
            return f', did you mean "{quoted}" (in quotes)?'
        if isinstance(given, float):
            return ": YAML read a number and dropped its last zeros, write all of it in quotes"
    parts = re.match(r"^([0-9]+)\s*([A-Za-z]*)$", str(given))
    if not parts or "pattern" not in schema:
        return ""
    fitting = [f"{parts[1]}{unit}" for unit in ("Gi", "Mi", "h", "m")]
    fitting = [text for text in fitting if re.search(schema["pattern"], text)]
    near = difflib.get_close_matches(str(given), fitting, 1, cutoff=0.0)
    return f", did you mean {near[0]!r}?" if near else ""


_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 10**3, "M": 10**6, "G": 10**9}
_QUANTITY = re.compile(r"^([0-9]+(?:\.[0-9]+)?)([A-Za-z]*)$")


def is_bytes(quantity: str) -> bool:
    """Whether it is a quantity of bytes that `bytes_of` can read."""
    match = _QUANTITY.match(quantity)
    return bool(match and (not match[2] or match[2] in _UNITS))


def bytes_of(quantity: str) -> int:
    """A Kubernetes quantity of bytes as a number: 50Gi is 53687091200.

    Raises IntentError for what is no quantity.
    """
    match = _QUANTITY.match(quantity)
    if not match or not is_bytes(quantity):
        raise IntentError(f"{quantity!r} is no quantity of bytes", allowed="e.g. 512Mi, 50Gi")
    return int(float(match[1]) * _UNITS.get(match[2], 1))


def cores_of(quantity: str) -> float:
    """A Kubernetes quantity of CPU in cores: 500m is 0.5."""
    return int(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)
