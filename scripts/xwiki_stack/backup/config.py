"""What a run needs: a YAML file, checked as intents are; secrets only as paths of files."""

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

from xwiki_stack import intent
from xwiki_stack.errors import IntentError

DEFAULT = Path("/etc/xwiki-stack/backup.yaml")
"""Where the CronJobs mount it."""

VARIABLE = "XWIKI_STACK_BACKUP_CONFIG"

SECRET_LIMIT = 64 * 1024
"""Bytes: a larger file is no key and no password."""


@dataclass(frozen=True)
class Bucket:
    """Where sets lie. `prefix` ends with a slash, or is empty."""

    endpoint: str
    region: str
    bucket: str
    prefix: str
    path_style: bool
    checksums: str
    encryption: str
    kms_key: str
    access_key_file: Path
    secret_key_file: Path
    session_token_file: Path | None
    ca_file: Path | None


@dataclass(frozen=True)
class Keys:
    """Public keys by value, private ones by file; what a verb does not need may be absent."""

    recipients: tuple[str, ...]
    index_identity_file: Path | None
    identity_files: tuple[Path, ...]
    signing_key_file: Path | None
    trusted: tuple[str, ...]


@dataclass(frozen=True)
class Database:
    """A MySQL server and the wiki's schemas on it."""

    host: str
    port: int
    user: str
    password_file: Path
    schemas: tuple[str, ...]
    main_wiki: str
    prefix: str
    programs: str

    def wiki_of(self, schema: str) -> str:
        """The id of a schema's wiki, which names its folder below store/file."""
        if schema == self.schemas[0]:
            return self.main_wiki
        return schema.removeprefix(self.prefix)


@dataclass(frozen=True)
class Web:
    """A running wiki as HTTP serves it. `url` has no slash at its end; `user` may do all in it."""

    url: str
    user: str
    password_file: Path


@dataclass(frozen=True)
class Limits:
    """Of one run, and of how long packs are shared."""

    run_minutes: int = 360
    restore_minutes: int = 720
    generation_sets: int = 7
    generation_days: int = 7
    pack_bytes: int = 48 * 2**20


@dataclass(frozen=True)
class Retention:
    """What prune keeps; a set is kept if any rule keeps it."""

    opened: int = 7
    last: int = 4
    daily: int = 14
    weekly: int = 8
    monthly: int = 6


XAR_RETENTION = Retention(opened=2, last=2, daily=7, weekly=4, monthly=3)
"""Of the second kind of sets: nobody counts on an old one first."""


@dataclass(frozen=True)
class Drill:
    """How restores are tried, and what is promised of them.

    rto_hours: how long one may take. max_age_days: age of the newest drill that is promised.
    source: environment whose sets are tried, "" for this one's. canary_since: sets made before it
    may lack a canary. marker: written once the wiki may start. The minutes are waited for the
    database and for the wiki.
    """

    rto_hours: int = 2
    max_age_days: int = 35
    source: str = ""
    canary_since: datetime | None = None
    marker: Path = Path("/run/drill/restored")
    database_minutes: int = 10
    wiki_minutes: int = 30


@dataclass(frozen=True)
class Config:
    """Everything of one environment's backups; `path` is where it was read."""

    path: Path
    environment: str
    purpose: str
    store: Bucket
    keys: Keys
    database: Database | None
    files: Path | None
    web: Web | None = None
    limits: Limits = field(default_factory=Limits)
    retention: Retention = field(default_factory=Retention)
    xar_retention: Retention = XAR_RETENTION
    rpo_hours: int = 24
    drill: Drill | None = None
    host: str = ""
    foreign_hosts: tuple[str, ...] = ()

    def need_database(self) -> Database:
        """The database, or IntentError that names the missing key."""
        return self.database or self._lack("database", "host, user, passwordFile, schemas")

    def need_files(self) -> Path:
        """XWiki's permanent directory, or IntentError that names the missing key."""
        return self.files or self._lack("files.root", "XWiki's permanent directory")

    def need_web(self) -> Web:
        """The running wiki, or IntentError that names the missing key."""
        return self.web or self._lack("web", "url, passwordFile")

    def need_drill(self) -> Drill:
        """How restores are tried, or IntentError that names the missing key."""
        return self.drill or self._lack("drill", "rtoHours, marker and more")

    def need_host(self) -> str:
        """The environment's public host name, or IntentError that names the missing key."""
        return self.host or self._lack("host", "the host name under which visitors reach this wiki")

    def need_recipients(self) -> tuple[str, ...]:
        """age public keys, or IntentError that names the missing key."""
        return self.keys.recipients or self._lack("keys.recipients", "age public keys")

    def need_signing_key(self) -> str:
        """The signing key's PEM, or IntentError that names what is missing."""
        if not self.keys.signing_key_file:
            self._lack("keys.signingKeyFile", "a file with an ed25519 private key")
        return secret(self.keys.signing_key_file, self, "keys.signingKeyFile")

    def need_trusted(self) -> tuple[str, ...]:
        """Public keys whose signatures count, or IntentError that names the missing key."""
        return self.keys.trusted or self._lack("keys.trusted", "base64 of ed25519 public keys")

    def _lack(self, key: str, allowed: str) -> Any:
        raise IntentError(
            "is missing", where=f"{self.path}: {key}", allowed=allowed,
            next="write it there, as docs/reference/backups.md does, or name another file by"
            " --config",
        )  # fmt: skip


def load(path: Path) -> Config:
    """Read a file. Raises IntentError with every mistake of it."""
    schema = json.loads(resources(__package__).joinpath("config.schema.json").read_text())
    reference = "scripts/xwiki_stack/backup/config.schema.json"
    document = intent.read_checked(path, schema, reference)
    store = document["store"]
    if store.get("kmsKey") and store.get("encryption") != "aws:kms":
        raise IntentError(
            "is said without encryption by it", where=f"{path}: store.kmsKey",
            next="set store.encryption to aws:kms, or take the key away",
        )  # fmt: skip
    limits, retention = document.get("limits", {}), document.get("retention", {})
    return Config(
        path=path,
        environment=document["environment"],
        purpose=document["purpose"],
        store=_bucket(document["store"]),
        keys=_keys(document["keys"]),
        database=_database(document["database"]) if "database" in document else None,
        files=Path(document["files"]["root"]) if "files" in document else None,
        web=_web(document["web"]) if "web" in document else None,
        limits=Limits(
            run_minutes=limits.get("runMinutes", Limits.run_minutes),
            restore_minutes=limits.get("restoreMinutes", Limits.restore_minutes),
            generation_sets=limits.get("generationSets", Limits.generation_sets),
            generation_days=limits.get("generationDays", Limits.generation_days),
            pack_bytes=limits.get("packMiB", Limits.pack_bytes >> 20) << 20,
        ),
        retention=Retention(**retention),
        xar_retention=replace(XAR_RETENTION, **document.get("xarRetention", {})),
        rpo_hours=document.get("rpoHours", Config.rpo_hours),
        drill=_drill(document["drill"]) if "drill" in document else None,
        host=document.get("host", ""),
        foreign_hosts=tuple(document.get("foreignHosts", ())),
    )


def secret(path: Path | None, config: Config, key: str) -> str:
    """The content of a secret file without its last line break. Raises IntentError."""
    where = f"{config.path}: {key}"
    if path is None:
        raise IntentError("is missing", where=where)
    try:
        with path.open("rb") as file:
            content = file.read(SECRET_LIMIT + 1)
    except OSError as error:
        raise IntentError(f"{path} cannot be read: {error.strerror}", where=where) from error
    text = content.decode(errors="replace").rstrip("\r\n")
    if not text or len(content) > SECRET_LIMIT:
        raise IntentError(f"{path} is {'too large' if text else 'empty'}", where=where)
    return text


def authority(config: Config) -> str | None:
    """The file of certificates to trust at the store; None for the system's. Raises IntentError."""
    path = config.store.ca_file
    if path is None:
        return None
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:
        raise IntentError(
            f"{path} cannot be read as certificates: {error.strerror or error.args[0]}",
            where=f"{config.path}: store.caFile",
            next="put the PEM of the store's own authority there, or take the key away",
        ) from error
    return str(path)


def _bucket(said: Mapping[str, Any]) -> Bucket:
    prefix = said.get("prefix", "")
    token, authority = said.get("sessionTokenFile"), said.get("caFile")
    return Bucket(
        endpoint=said.get("endpoint", "").rstrip("/"),
        region=said.get("region", "us-east-1"),
        bucket=said["bucket"],
        prefix=f"{prefix}/" if prefix else "",
        path_style=said.get("pathStyle", False),
        checksums=said.get("checksums", "when_required"),
        encryption=said.get("encryption", "none"),
        kms_key=said.get("kmsKey", ""),
        access_key_file=Path(said["accessKeyFile"]),
        secret_key_file=Path(said["secretKeyFile"]),
        session_token_file=Path(token) if token else None,
        ca_file=Path(authority) if authority else None,
    )


def _keys(said: Mapping[str, Any]) -> Keys:
    index, signing = said.get("indexIdentityFile"), said.get("signingKeyFile")
    return Keys(
        recipients=tuple(said.get("recipients", ())),
        index_identity_file=Path(index) if index else None,
        identity_files=tuple(Path(name) for name in said.get("identityFiles", ())),
        signing_key_file=Path(signing) if signing else None,
        trusted=tuple(said.get("trusted", ())),
    )


def _database(said: Mapping[str, Any]) -> Database:
    return Database(
        host=said["host"],
        port=said.get("port", 3306),
        user=said["user"],
        password_file=Path(said["passwordFile"]),
        schemas=tuple(said["schemas"]),
        main_wiki=said.get("mainWiki", "xwiki"),
        prefix=said.get("prefix", ""),
        programs=said.get("programs", ""),
    )


def _web(said: Mapping[str, Any]) -> Web:
    return Web(
        url=said["url"].rstrip("/"),
        user=said.get("user", "superadmin"),
        password_file=Path(said["passwordFile"]),
    )


def _drill(said: Mapping[str, Any]) -> Drill:
    since = said.get("canarySince")
    return Drill(
        rto_hours=said.get("rtoHours", Drill.rto_hours),
        max_age_days=said.get("maxAgeDays", Drill.max_age_days),
        source=said.get("source", ""),
        canary_since=datetime.strptime(since, "%Y-%m-%d").replace(tzinfo=UTC) if since else None,
        marker=Path(said.get("marker", Drill.marker)),
        database_minutes=said.get("databaseMinutes", Drill.database_minutes),
        wiki_minutes=said.get("wikiMinutes", Drill.wiki_minutes),
    )
