"""Two lists of objects, compared as Kubernetes reads them: by name, not by position.

Lists are keyed by what tells their items apart (name, mountPath, containerPort ...), quantities are
compared by their amount, and what changes without a meaning of its own is folded away.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import Enum
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from xwiki_stack import policy
from xwiki_stack.policy import Manifest


class Absent(Enum):
    """What stands where a field does not: None would be a value."""

    ABSENT = "absent"


ABSENT = Absent.ABSENT

KEYS = ("mountPath", "containerPort", "name", "metadata.name", "host", "key", "port", "topologyKey")
"""Fields that tell the items of a list apart; the first that does so in both lists counts."""

WHOLE = {"command", "args"}
"""Lists of words whose places carry the meaning: shown as one."""

AMOUNTS = {"requests", "limits", "capacity", "hard", "sizeLimit"}
"""Fields at or below which a text is a quantity, so that 1Gi and 1024Mi are the same."""

NOISE = {
    "metadata.labels[helm.sh/chart]": "chart label",
    "metadata.labels[app.kubernetes.io/version]": "version label",
    "metadata.labels[app.kubernetes.io/managed-by]": "managed-by label",
}
"""Labels at the top of an object that change with each release, and what they are called."""

CHECKSUM = "checksum/"
"""Begins the name of a pod's annotation that changes with something else, which is shown."""

CHECKSUM_WORD = "checksum"
"""What such an annotation is called where it is folded; its pods are replaced all the same."""

_HASHED = re.compile(r"(.+)-(?:[0-9a-f]{8,}|[bcdfghkmt2456789]{10})")
"""Names that end in a hash of the content: ours in hex, kustomize's in its own alphabet."""


@dataclass(frozen=True, order=True)
class Identity:
    """What makes an object the same one in both trees; `group` is its API group, '' for core."""

    kind: str
    name: str
    namespace: str = ""
    group: str = ""
    file: str = ""
    """Only where two files hold an object of the same name, such as a patch of it."""

    def __str__(self) -> str:
        where = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind} {where}{self.name}" + (f" ({self.file})" if self.file else "")


@dataclass(frozen=True)
class Change:
    """One field: its path as people write it, and both values, ABSENT where there is none."""

    path: str
    old: Any = ABSENT
    new: Any = ABSENT


class Fate(Enum):
    """What becomes of an object."""

    ADDED = "added"
    REMOVED = "removed"
    REPLACED = "replaced"
    """The same thing under a name that carries a hash of its content."""
    CHANGED = "changed"
    SAME = "same"


@dataclass(frozen=True)
class Difference:
    """One object in both trees; `folded` names each change that was left out as noise."""

    identity: Identity
    old: Manifest | None = None
    new: Manifest | None = None
    changes: tuple[Change, ...] = ()
    folded: tuple[str, ...] = ()

    @property
    def fate(self) -> Fate:
        """What becomes of the object."""
        if self.old is None or self.new is None:
            return Fate.ADDED if self.old is None else Fate.REMOVED
        if self.old["metadata"]["name"] != self.new["metadata"]["name"]:
            return Fate.REPLACED
        return Fate.CHANGED if self.changes or CHECKSUM_WORD in self.folded else Fate.SAME

    @property
    def kind(self) -> str:
        """The object's kind."""
        return self.identity.kind

    def below(self, *prefixes: str) -> list[Change]:
        """The changes at or below any of these paths."""
        return [change for change in self.changes if under(change.path, *prefixes)]


@dataclass(frozen=True)
class Comparison:
    """All objects of one environment (or of the files for Flux) in both trees."""

    name: str
    namespace: str
    old: Sequence[Manifest]
    new: Sequence[Manifest]
    differences: Sequence[Difference] = field(default_factory=tuple)

    @property
    def folded(self) -> dict[str, int]:
        """How often each kind of noise was left out."""
        return dict(
            sorted(Counter(word for item in self.differences for word in item.folded).items())
        )

    @property
    def shown(self) -> list[Difference]:
        """The objects that differ in more than noise."""
        return [item for item in self.differences if item.fate is not Fate.SAME]


def compare(
    name: str, namespace: str, old: Sequence[Manifest], new: Sequence[Manifest]
) -> Comparison:
    """Pair the objects of two trees and compare each pair."""
    before, after = by_identity(old), by_identity(new)
    pairs: list[tuple[Identity, Manifest | None, Manifest | None]] = [
        (identity, before.get(identity), after.get(identity))
        for identity in sorted({*before, *after})
    ]
    found = [_difference(*pair) for pair in _renamed(pairs)]
    shown = {item.identity for item in found if item.changes or item.fate is Fate.REPLACED}
    shown |= {item.identity for item in found if item.old is None or item.new is None}
    return Comparison(name, namespace, old, new, tuple(_fold(item, shown) for item in found))


def by_identity(objects: Iterable[Manifest]) -> dict[Identity, Manifest]:
    """The objects by what they are; a second one of that name is told by its file."""
    found: dict[Identity, Manifest] = {}
    for item in objects:
        meta = item["metadata"]
        group = str(item.get("apiVersion", "")).rpartition("/")[0]
        words = (item["kind"], meta["name"], meta.get("namespace", ""), group)
        identity = Identity(*words)
        if identity in found:
            identity = Identity(*words, file=file_of(item))
        found[identity] = item
    return found


FILE = "xwiki-stack.review/file"
"""Annotation that `sources` puts on what it reads from a file; never shown."""


def file_of(item: Manifest) -> str:
    """The file an object was read from; '' for a rendered one."""
    return str((item.get("metadata", {}).get("annotations") or {}).get(FILE, ""))


def changes(old: Any, new: Any, path: str = "") -> Iterator[Change]:
    """Every field that differs, in the order of the paths."""
    old, new = (ABSENT if value is None else value for value in (old, new))
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}, key=str):
            yield from changes(old.get(key), new.get(key), joined(path, str(key)))
    elif isinstance(old, list) and isinstance(new, list):
        yield from _items(old, new, path)
    elif not _same(old, new, path):
        yield Change(path, old, new)


def joined(path: str, key: str) -> str:
    """A path and one more key: `metadata.labels[helm.sh/chart]`."""
    if re.fullmatch(r"[A-Za-z0-9_-]+", key):
        return f"{path}.{key}" if path else key
    return f"{path}[{key}]"


def amount(quantity: str | int) -> Decimal:
    """A Kubernetes quantity as a number. Raises ValueError for what is none."""
    return Decimal(parse_quantity(quantity))  # type: ignore[no-untyped-call]


def under(path: str, *prefixes: str) -> bool:
    """Whether a path is one of these or leads below one."""
    return any(
        path == prefix or path.startswith((f"{prefix}.", f"{prefix}[", f"{prefix} "))
        for prefix in prefixes
    )


def masked(item: Manifest) -> Manifest:
    """An object without our note of its file; a Secret with fingerprints, without notes of SOPS."""
    if file_of(item):
        meta = item["metadata"]
        notes = {key: value for key, value in meta["annotations"].items() if key != FILE}
        kept = {key: value for key, value in meta.items() if key != "annotations"}
        item = {**item, "metadata": {**kept, **({"annotations": notes} if notes else {})}}
    if item.get("kind") != "Secret":
        return item
    hidden = {key: value for key, value in item.items() if key != "sops"}
    for part in ("data", "stringData"):
        if isinstance(hidden.get(part), dict):
            hidden[part] = {key: _fingerprint(value) for key, value in hidden[part].items()}
    return hidden


def _fingerprint(value: object) -> str:
    return f"(hidden, {hashlib.sha256(str(value).encode()).hexdigest()[:8]})"


def _difference(identity: Identity, old: Manifest | None, new: Manifest | None) -> Difference:
    found: tuple[Change, ...] = ()
    if old is not None and new is not None:
        found = tuple(changes(masked(old), masked(new)))
    return Difference(identity, old, new, found)


def _renamed(
    pairs: list[tuple[Identity, Manifest | None, Manifest | None]],
) -> Iterator[tuple[Identity, Manifest | None, Manifest | None]]:
    """The pairs, with one that went and one that came under a hashed name made into one."""
    gone = _by_stem((identity, old) for identity, old, new in pairs if new is None)
    came = _by_stem((identity, new) for identity, old, new in pairs if old is None)
    both = {stem for stem in gone.keys() & came.keys() if len(gone[stem]) == len(came[stem]) == 1}
    for identity, old, new in pairs:
        stem = _stem(identity)
        if stem not in both or (old is not None and new is not None):
            yield identity, old, new
        elif new is not None:
            yield identity, gone[stem][0], new


def _by_stem(
    sided: Iterable[tuple[Identity, Manifest | None]],
) -> dict[Identity | None, list[Manifest | None]]:
    found: dict[Identity | None, list[Manifest | None]] = {}
    for identity, item in sided:
        if stem := _stem(identity):
            found.setdefault(stem, []).append(item)
    return found


def _stem(identity: Identity) -> Identity | None:
    match = _HASHED.fullmatch(identity.name)
    return Identity(identity.kind, match[1], identity.namespace, identity.group) if match else None


def _fold(item: Difference, shown: set[Identity]) -> Difference:
    """The difference without what says nothing: labels of a release, checksums of what is shown."""
    kept: list[Change] = []
    folded: list[str] = []
    read = set(sources_of(item.new or {}))
    explained = any((identity.kind, identity.name) in read for identity in shown)
    for change in item.changes:
        noise = NOISE.get(change.path, "")
        if explained and f".annotations[{CHECKSUM}" in change.path:
            noise = CHECKSUM_WORD
        if item.fate is Fate.REPLACED and change.path == "metadata.name":
            noise = "hash in a name"
        if noise:
            folded.append(noise)
        else:
            kept.append(change)
    return replace(item, changes=tuple(kept), folded=tuple(folded))


def sources_of(item: Manifest) -> Iterator[tuple[str, str]]:
    """Kind and name of each ConfigMap and Secret that the pod of an object reads."""
    spec = policy.pod_of(item).get("spec", {})
    for volume in spec.get("volumes") or []:
        for source in [volume, *(volume.get("projected") or {}).get("sources", [])]:
            if "configMap" in source:
                yield "ConfigMap", source["configMap"]["name"]
            if "secret" in source:
                secret = source["secret"]
                yield "Secret", secret.get("secretName") or secret["name"]
    for container in policy.containers_of(item):
        for variable in container.get("env") or []:
            origin = variable.get("valueFrom") or {}
            for key, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
                if key in origin:
                    yield kind, origin[key]["name"]
        for origin in container.get("envFrom") or []:
            for key, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                if key in origin:
                    yield kind, origin[key]["name"]


def _items(old: list[Any], new: list[Any], path: str) -> Iterator[Change]:
    last = re.split(r"[.\[]", path)[-1]
    if last in WHOLE:
        if old != new:
            yield Change(path, old, new)
        return
    key = _telling(old, new)
    if key:
        before, after = ({str(_field(item, key)): item for item in side} for side in (old, new))
        for name in [*before, *(name for name in after if name not in before)]:
            yield from changes(before.get(name), after.get(name), f"{path}[{name}]")
        yield from _reordered(list(before), list(after), path)
        return
    before, after = ({_canonical(item): item for item in side} for side in (old, new))
    gone = [before[text] for text in before if text not in after]
    came = [after[text] for text in after if text not in before]
    if len(gone) == len(came) == 1 and isinstance(gone[0], dict | list):
        yield from changes(gone[0], came[0], f"{path}[{new.index(came[0])}]")
    else:
        yield from (Change(f"{path}[]", item) for item in gone)
        yield from (Change(f"{path}[]", ABSENT, item) for item in came)
        yield from _reordered(list(before), list(after), path)


def _reordered(old: list[str], new: list[str], path: str) -> Iterator[Change]:
    """That the same items stand in another order: a pod starts anew for that as well."""
    if old != new and sorted(old) == sorted(new):
        yield Change(f"{path} (order)", old, new)


def _telling(old: list[Any], new: list[Any]) -> str:
    """The field that tells the items of both lists apart; '' where none does."""
    for key in KEYS:
        sides = [[_field(item, key) for item in side] for side in (old, new)]
        if all(
            all(isinstance(value, str | int) for value in side) and len(set(side)) == len(side)
            for side in sides
        ):
            return key
    return ""


def _field(item: Any, key: str) -> Any:
    for part in key.split("."):
        item = item.get(part) if isinstance(item, dict) else None
    return item


def _canonical(item: Any) -> str:
    return item if isinstance(item, str) else json.dumps(item, sort_keys=True, default=str)


def _same(old: Any, new: Any, path: str) -> bool:
    if old == new and type(old) is type(new):
        return True
    amounts = isinstance(old, str | int) and isinstance(new, str | int)
    if amounts and AMOUNTS.intersection(re.split(r"[.\[\]]", path)):
        try:
            return amount(old) == amount(new)
        except ValueError:
            return False
    return False
