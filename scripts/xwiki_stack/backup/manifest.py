"""The manifest: what a set is, signed, chained to the one before it. Without one there is no set.

Its content is a contract (`SCHEMA`); readers refuse what they do not know. Numbers are whole, times
are UTC to the second, by the store's clock. Packs carry stored hashes only: a plain hash of a
single file would tell whoever reads the bucket that a known file is in the wiki.
"""

import hashlib
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, ClassVar, Generic, Self, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from xwiki_stack.backup import signature
from xwiki_stack.backup.store import Absent, Store
from xwiki_stack.backup.stream import Facts
from xwiki_stack.errors import DamagedError, IntentError

SCHEMA = 1
SITE, XAR = "site", "xar"
"""Kinds of sets: database and files, from which a wiki comes back as it was; XWiki's own export,
which survives a change of the database."""

NAME = "manifest.json"

_ID = re.compile(r"(\d{8}T\d{6}Z)-[0-9a-f]{8}")
_PACK = re.compile(r"packs/[0-9a-fTZ-]+/[0-9a-f]{32}")


@dataclass(frozen=True)
class Artefact:
    """An object of the set's own: where it lies, sizes in bytes and SHA-256 plain and stored."""

    key: str
    plain_bytes: int
    plain_sha256: str
    stored_bytes: int
    stored_sha256: str

    @classmethod
    def of(cls, key: str, facts: Facts) -> Self:
        """What lies there, by what was seen of it as it was written or read."""
        return cls(key, facts.plain_bytes, facts.plain_sha256, facts.stored_bytes,
                   facts.stored_sha256)  # fmt: skip


@dataclass(frozen=True)
class Pack:
    """An object that sets share: where it lies, its stored size in bytes and SHA-256."""

    key: str
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What every set says of itself, whatever its kind.

    producers: exit code of each. recipients: fingerprints of who can open it.
    previous: `id` and `sha256` of the stored manifest of the same kind before this one.
    """

    KIND: ClassVar[str]

    id: str
    environment: str
    snapshot: str
    tool: str
    producers: dict[str, int]
    recipients: list[str]
    previous: dict[str, str] | None = None
    schema: int = SCHEMA
    kind: str

    @property
    def time(self) -> datetime:
        """The moment whose data this is."""
        return time_of(self.id)

    @property
    def own(self) -> list[Artefact]:
        """Objects that lie in the set's own folder."""
        raise NotImplementedError

    @property
    def objects(self) -> list[Pack]:
        """Every object that the set needs, with stored size and hash."""
        return [Pack(a.key, a.stored_bytes, a.stored_sha256) for a in self.own]

    @property
    def bytes(self) -> int:
        """Stored bytes of all its objects, shared ones too."""
        return sum(item.bytes for item in self.objects)

    @property
    def parts(self) -> dict[str, int]:
        """Plain bytes of each part: what it holds, however well it packs and whatever is shared."""
        return {PurePosixPath(a.key).name.split(".")[0]: a.plain_bytes for a in self.own}

    @classmethod
    def read(cls, body: dict[str, Any], where: str) -> Self:
        """A manifest of this kind from its document. Raises DamagedError; TypeError, KeyError
        and AttributeError for what has another shape."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Site(Manifest):
    """Database and files. `tables`: rows by `schema.table`, from the dump stream itself.

    generation: `id`, `number` of this set in it (from 1), `began` (time of its first set).
    files: counts and bytes.
    """

    KIND: ClassVar[str] = SITE

    server: str
    mysqldump: str
    position: dict[str, Any]
    schemas: list[str]
    tables: dict[str, int]
    database: Artefact
    index: Artefact
    packs: list[Pack]
    generation: dict[str, Any]
    files: dict[str, int]
    attachments: dict[str, int]
    kind: str = SITE

    @property
    def own(self) -> list[Artefact]:
        return [self.database, self.index]

    @property
    def objects(self) -> list[Pack]:
        return [*super().objects, *self.packs]

    @property
    def parts(self) -> dict[str, int]:
        return {
            "database": self.database.plain_bytes,
            "files": self.files["bytes"],
            "index": self.index.plain_bytes,
        }

    @classmethod
    def read(cls, body: dict[str, Any], where: str) -> Self:
        read = dict(body)
        read["database"], read["index"] = Artefact(**body["database"]), Artefact(**body["index"])
        read["packs"] = [Pack(**pack) for pack in body["packs"]]
        made = cls(**read)
        if not all(_PACK.fullmatch(pack.key) for pack in made.packs):
            raise DamagedError("names a pack that can be none", where=where)
        return made


@dataclass(frozen=True)
class Export:
    """One wiki of a XAR set: XWiki's own archive of it.

    pages: without their translations; entries: with them, each an XML file of the archive.
    attachments: in their newest version. rows: of xwikidoc when the export had ended.
    """

    wiki: str
    archive: Artefact
    pages: int
    entries: int
    attachments: int
    rows: int


@dataclass(frozen=True, kw_only=True)
class Xar(Manifest):
    """XWiki's own export of each wiki. `xwiki`: the version that made it."""

    KIND: ClassVar[str] = XAR

    xwiki: str
    wikis: list[Export]
    kind: str = XAR

    @property
    def own(self) -> list[Artefact]:
        return [export.archive for export in self.wikis]

    @property
    def parts(self) -> dict[str, int]:
        return {export.wiki: export.archive.plain_bytes for export in self.wikis}

    @classmethod
    def read(cls, body: dict[str, Any], where: str) -> Self:
        wikis = [
            Export(**{**said, "archive": Artefact(**said["archive"])}) for said in body["wikis"]
        ]
        if not wikis:
            raise DamagedError("holds no wiki", where=where)
        return cls(**{**body, "wikis": wikis})

    def export(self, wiki: str) -> Export:
        """That of a wiki. Raises IntentError."""
        for export in self.wikis:
            if export.wiki == wiki:
                return export
        there = ", ".join(export.wiki for export in self.wikis)
        raise IntentError(f"set {self.id} holds no wiki {wiki!r}", allowed=there)


KINDS: dict[str, type[Manifest]] = {SITE: Site, XAR: Xar}
"""Shape of each kind's manifest."""

M = TypeVar("M", bound=Manifest)
M_co = TypeVar("M_co", bound=Manifest, covariant=True)


@dataclass(frozen=True)
class Found(Generic[M_co]):
    """A set as the bucket has it: its manifest and the hash that its follower states of it."""

    manifest: M_co
    sha256: str


@dataclass
class Listing(Generic[M_co]):
    """All sets of a kind, oldest first. `unreadable`: id to what is wrong with its manifest."""

    sets: list[Found[M_co]] = field(default_factory=list)
    unreadable: dict[str, DamagedError] = field(default_factory=dict)

    @property
    def newest(self) -> Found[M_co] | None:
        """The newest set whose manifest is signed by a trusted key."""
        return self.sets[-1] if self.sets else None

    def find(self, name: str) -> Found[M_co]:
        """A set by its id, or by its beginning. Raises IntentError, or what is wrong with it."""
        for broken, error in self.unreadable.items():
            if name and broken.startswith(name):
                raise error
        fitting = [item for item in self.sets if item.manifest.id.startswith(name)]
        if not name or len(fitting) != 1:
            raise IntentError(
                f"{len(fitting) or 'no'} sets are called {name!r}",
                next="`xwiki-stack backup list` has them all",
            )
        return fitting[0]


def new_id(moment: datetime) -> str:
    """An id for a set of that moment: sorts by time, and no two runs choose the same."""
    return f"{moment.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


def time_of(name: str) -> datetime:
    """The moment in a set's id. Raises DamagedError for what is no id."""
    found = _ID.fullmatch(name)
    try:
        return datetime.strptime(found[1] if found else "", "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise DamagedError(f"{name!r} is no id of a set") from error


def folder_of(kind: str) -> str:
    """Where the sets of a kind lie."""
    return f"sets/{kind}/"


def key_of(kind: str, name: str, part: str = NAME) -> str:
    """Where a set's own object lies."""
    return f"{folder_of(kind)}{name}/{part}"


def publish(store: Store, manifest: M, key: Ed25519PrivateKey) -> Found[M]:
    """Make the set exist. The last thing a run writes, and only where nothing is."""
    content = signature.seal("set", asdict(manifest), key)
    store.put_new(key_of(manifest.kind, manifest.id), content)
    return Found(manifest, hashlib.sha256(content).hexdigest())


def fetch(
    store: Store, name: str, trusted: Iterable[str], environment: str, shape: type[M]
) -> Found[M]:
    """A set by its exact id. Raises DamagedError unless a trusted key signed just that set."""
    key = key_of(shape.KIND, name)
    try:
        content = store.get(key)
    except Absent as error:
        raise DamagedError("there is no manifest, so no set", where=store.key(key)) from error
    where = store.key(key)
    body = signature.unseal("set", content, trusted, where)
    manifest = _read(body, where, shape)
    if manifest.id != name:
        raise DamagedError(
            f"is the manifest of {manifest.id}: it was moved here from another set", where=where
        )
    if manifest.environment != environment:
        raise DamagedError(
            f"is a set of {manifest.environment}, not of {environment}",
            where=where,
            next="correct store.prefix, or name the environment whose sets these are",
        )
    return Found(manifest, hashlib.sha256(content).hexdigest())


def names(store: Store, kind: str) -> list[str]:
    """Ids of all sets of a kind that have a manifest, signed or not, oldest first."""
    found = []
    for item in store.listed(folder_of(kind)):
        name, _, part = item.key.removeprefix(folder_of(kind)).partition("/")
        if part == NAME and _ID.fullmatch(name):
            found.append(name)
    return sorted(found)


def listing(store: Store, trusted: Iterable[str], environment: str, shape: type[M]) -> Listing[M]:
    """All sets of a kind, each manifest read and its signature checked."""
    keys, found = tuple(trusted), Listing[M]()
    for name in names(store, shape.KIND):
        try:
            found.sets.append(fetch(store, name, keys, environment, shape))
        except DamagedError as error:
            found.unreadable[name] = error
    return found


def listings(
    store: Store, trusted: Iterable[str], environment: str, kinds: Iterable[str] = tuple(KINDS)
) -> dict[str, Listing[Manifest]]:
    """`listing` of several kinds."""
    keys = tuple(trusted)
    return {kind: listing(store, keys, environment, KINDS[kind]) for kind in kinds}


def merged(found: Iterable[Listing[Manifest]]) -> Listing[Manifest]:
    """Sets of several kinds as one listing."""
    every = list(found)
    sets = [item for each in every for item in each.sets]
    broken = {name: error for each in every for name, error in each.unreadable.items()}
    return Listing(sorted(sets, key=lambda item: item.manifest.id), broken)


def chain_breaks(sets: Sequence[Found[Manifest]]) -> Iterator[tuple[str, str]]:
    """(id, what is wrong) for each set whose statement of its predecessor is not true.

    A predecessor that is gone was pruned; only one that is there can contradict.
    """
    by_id = {item.manifest.id: item for item in sets}
    for item in sets:
        said = item.manifest.previous
        before = by_id.get(said["id"]) if said else None
        if said and before and before.sha256 != said["sha256"]:
            yield item.manifest.id, f"the manifest of {said['id']} before it was replaced"


def _read(body: Any, where: str, shape: type[M]) -> M:
    try:
        if body["schema"] != SCHEMA or body["kind"] != shape.KIND:
            raise DamagedError(
                f"has schema {body['schema']!r} of {body['kind']!r}",
                where=where,
                allowed=f"{SCHEMA} of {shape.KIND}",
                next="use the xwiki-stack that made it, or a newer one",
            )
        manifest = shape.read(body, where)
        home = f"{folder_of(shape.KIND)}{manifest.id}/"
        if not all(artefact.key.startswith(home) for artefact in manifest.own):
            raise DamagedError("names objects of another set as its own", where=where)
        manifest.time  # noqa: B018 - raises for what is no id
    except (KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"is no manifest: {error}", where=where) from error
    return manifest
