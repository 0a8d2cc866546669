"""Secrets as they lie in a checkout: found wherever they hide, read without any key."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from xwiki_stack import intent, loader, proc
from xwiki_stack.secrets import rules

Manifest = dict[str, Any]

COUNTEREXAMPLES = ("tests/policy/counterexamples/", "tests/review/cases/")
"""Manifests that are wrong on purpose, and changes to made-up ones."""

_SEALED = re.compile(
    r"ENC\[AES256_GCM,data:[A-Za-z0-9+/=]+,iv:[A-Za-z0-9+/=]+,tag:[A-Za-z0-9+/=]+,type:[a-z]+\]"
)
_PRIVATE = re.compile(rb"AGE-SECRET-KEY-(PQ-)?1[0-9A-Z]{50}")
_KIND = re.compile(r"""(?:^|[{,-])\s*["']?kind["']?:\s*["']?Secret["']?\s*(?:[,}]|#.*$|$)""", re.M)
_VALUES = re.compile(r"""(?:^|[{,])\s*["']?(?:data|stringData)["']?:""", re.M)
"""A Secret with values, in a text that is no YAML by itself."""

_WORDS = (b"Secret", b"secretGenerator", b"sops")
"""Without one of them a file holds nothing of ours, and need not be parsed."""

_COPY = "kubectl.kubernetes.io/last-applied-configuration"
_STORES = ("kms", "gcp_kms", "azure_kv", "hckms", "hc_vault", "pgp", "key_groups")
"""Where sops' metadata keeps keys that are none of age's."""


@dataclass(frozen=True)
class File:
    """A file of the checkout; `name` is relative to its root."""

    root: Path
    name: str

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.root / self.name

    @cached_property
    def content(self) -> bytes:
        """Its bytes."""
        return self.path.read_bytes()

    @cached_property
    def documents(self) -> list[Any] | None:
        """Its YAML documents (JSON is YAML); None where it is a template, or broken."""
        try:
            every = yaml.load_all(self.content, Loader=loader.Loader)
            return [item for item in every if item is not None]
        except (yaml.YAMLError, ValueError):
            return None


@dataclass(frozen=True)
class Sealed:
    """A Secret in a file that SOPS sealed, as far as it is read without a key."""

    file: File
    item: Manifest

    @property
    def name(self) -> tuple[str, str]:
        """Its namespace and name; "" for what it does not say."""
        return (
            str(intent.at(self.item, "metadata", "namespace") or ""),
            str(intent.at(self.item, "metadata", "name") or ""),
        )

    @property
    def keys(self) -> set[str]:
        """The keys of its values."""
        return {key for _block, key, _value in _values(self.item)}

    @property
    def recipients(self) -> set[str]:
        """The age keys that it was sealed to."""
        listed = intent.at(self.item, "sops", "age")
        return {str(intent.at(one, "recipient")) for one in listed or []}

    @property
    def foreign(self) -> list[str]:
        """Kinds of keys beside age that open it."""
        return [store for store in _STORES if intent.at(self.item, "sops", store)]


def files(root: Path) -> list[File]:
    """What Git has or would take: all but what it ignores; without Git all but hidden folders."""
    words = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    git = proc.which("git")
    said = proc.run([git, "-C", root, *words], check=False) if git else None
    if said and said.code == 0:
        names = [name for name in said.out.split("\0") if name]
    else:
        found = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
        names = [path.as_posix() for path in found if not path.parts[0].startswith(".")]
    return [File(root, name) for name in sorted(set(names)) if (root / name).is_file()]


def manifests(every: list[File]) -> list[File]:
    """The files that can hold objects of Kubernetes."""
    endings = (".yaml", ".yml", ".json", ".j2", ".tpl")
    return [
        file
        for file in every
        if file.name.endswith(endings) and not file.name.startswith(COUNTEREXAMPLES)
    ]


def write(path: Path, text: str) -> None:
    """Have a file with this text, in one move: whoever reads it meanwhile finds a whole one."""
    fresh = path.with_name(f".{path.name}.fresh")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)


def private(file: File) -> bool:
    """Whether a file holds a private age key."""
    return bool(_PRIVATE.search(file.content))


def plain(file: File) -> list[str]:
    """What is wrong with the Secrets of a file: all that is not sealed, or looks as if it was."""
    tree = file.name.startswith("flux/")
    if not tree and not any(word in file.content for word in _WORDS):
        return []
    if file.documents is None:
        if _hides(file.content.decode(errors="replace")):
            return ["holds what looks like a Secret, in a template or in what is no YAML"]
        return ["is no YAML, so nobody can tell whether it holds a Secret"] if tree else []
    return [problem for document in file.documents for problem in _plain(document, top=True)]


def sealed(file: File) -> Sealed | None:
    """The sealed Secret of a file that holds one and nothing else, or None."""
    documents = (b"sops" in file.content and file.documents) or []
    if len(documents) != 1 or not isinstance(documents[0], dict) or "sops" not in documents[0]:
        return None
    return Sealed(file, documents[0]) if documents[0].get("kind") == "Secret" else None


def _plain(value: Any, *, top: bool = False) -> Iterator[str]:
    """Of a document or a part of it: plain Secrets at any depth."""
    if isinstance(value, list):
        for inner in value:
            yield from _plain(inner)
    elif isinstance(value, str):
        if _hides(value):
            yield "a Secret stands inside of a text"
    elif isinstance(value, dict):
        if value.get("kind") == "Secret" and {"metadata", "data", "stringData"} & set(value):
            yield from _unsealed(value, alone=top)
            return
        if "secretGenerator" in value:
            yield "secretGenerator makes a Secret from plain text"
        for inner in value.values():
            yield from _plain(inner)


def _hides(text: str) -> bool:
    """Whether a text has what looks like a Secret with values."""
    return bool(_KIND.search(text) and _VALUES.search(text))


def _unsealed(item: Manifest, *, alone: bool) -> Iterator[str]:
    name = intent.at(item, "metadata", "name") or "without a name"
    metadata = item.get("sops")
    if not alone or not isinstance(metadata, dict):
        yield f"Secret {name} is not sealed"
        return
    for block, key, value in _values(item):
        if not _SEALED.fullmatch(str(value)):
            yield f"Secret {name}: {block}.{key} is plain, or empty, although the file is sealed"
    if metadata.get("encrypted_regex") != rules.ENCRYPTED:
        yield f"Secret {name} was not sealed by the rule: encrypted_regex is not {rules.ENCRYPTED}"
    if not _SEALED.fullmatch(str(metadata.get("mac"))):
        yield f"Secret {name} has no seal over its values (sops.mac)"
    if _COPY in (intent.at(item, "metadata", "annotations") or {}):
        yield f"Secret {name} has its plain values in the annotation {_COPY}"


def _values(item: Manifest) -> Iterator[tuple[str, str, Any]]:
    for block in ("data", "stringData"):
        values = item.get(block)
        if isinstance(values, dict):
            yield from ((block, str(key), value) for key, value in values.items())
        elif values is not None:
            yield block, "(all)", values
