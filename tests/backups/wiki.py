"""A wiki to back up: rows in a real MySQL, files in a folder, keys and configuration."""

import base64
import contextlib
import copy
import hashlib
import io
import random
import secrets
import shutil
import stat
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyrage
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.backups.s3 import S3
from tests.contract.containers import Container, Host
from xwiki_stack import cli, proc
from xwiki_stack.backup import signature
from xwiki_stack.backup.config import Config, load
from xwiki_stack.cluster.objectstore import BUCKET, Identity

GLOBAL = "PROCESS, RELOAD, REPLICATION CLIENT, SHOW_ROUTINE"
PER_SCHEMA = "SELECT, SHOW VIEW, TRIGGER, EVENT, LOCK TABLES"

TABLES = """
CREATE TABLE xwikidoc (XWD_ID BIGINT NOT NULL PRIMARY KEY, XWD_FULLNAME VARCHAR(700) NOT NULL,
  XWD_CONTENT LONGTEXT NOT NULL) ENGINE=InnoDB;
CREATE TABLE xwikiattachment (XWA_ID BIGINT NOT NULL PRIMARY KEY, XWA_DOC_ID BIGINT NOT NULL,
  XWA_FILENAME VARCHAR(255) NOT NULL, XWA_SIZE BIGINT NOT NULL) ENGINE=InnoDB;
CREATE TABLE nasty (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, words LONGTEXT, bytes LONGBLOB,
  said JSON, twice INT GENERATED ALWAYS AS (LENGTH(words)) VIRTUAL) ENGINE=InnoDB;
CREATE TABLE empty_one (id INT PRIMARY KEY) ENGINE=InnoDB;
CREATE VIEW seen AS SELECT XWD_ID, 'INSERT INTO `x` VALUES (1),(2)' AS text FROM xwikidoc;
"""

ROUTINES = """
DELIMITER ;;
CREATE PROCEDURE fill() BEGIN
INSERT INTO `nasty` VALUES (1,'a'),(2,'b');
END;;
CREATE TRIGGER noted BEFORE INSERT ON empty_one FOR EACH ROW BEGIN
SET @said = '
INSERT INTO `empty_one` VALUES (1),(2),(3);
-- Dump completed
';
END;;
DELIMITER ;
"""

PIECES = ("),(", "');", "'", '"', "\\", "\\'", "\\\\", "\n", "\r", "\0", "\x1a", "`", "INSERT INTO",
          "VALUES (", "é", "𝄞", "NULL", "--", ";", ")", "(", ",", "x" * 70)  # fmt: skip
"""What a value of a dump may hold that looks like a dump."""


@dataclass
class Server:
    """A real MySQL, and its own client programs made to run outside of its container."""

    container: Container
    password: str
    port: int
    programs: Path
    address: str = "127.0.0.1"

    def sql(self, text: str, schema: str = "", *, seconds: float = 120) -> list[str]:
        """Run statements as root, by its own client; give the lines they say."""
        where = f"host={self.address}\nport={self.port}"
        options = f"[client]\n{where}\nuser=root\npassword={self.password}\n"
        argv: list[str | Path] = [
                self.programs / "mysql", f"--defaults-file={proc.HANDED}", "--batch",
                "--skip-column-names", "--binary-mode", "--default-character-set=utf8mb4",
                *([schema] if schema else [])]  # fmt: skip
        said = proc.run(argv, stdin=text, handed=options, timeout=seconds).out
        return said.splitlines()


def take_programs(host: Host, image: str, folder: Path) -> Path:
    """Copy mysql and mysqldump out of an image with their libraries, to be run by their loader."""
    script = (
        "cd /; programs=$(command -v mysql mysqldump);"
        'libraries=$(for x in $programs; do ldd "$x"; done | grep -o "/[^ ]*" | sort -u);'
        "tar -ch $programs $libraries | base64 -w0"
    )
    said = host.once(image, "-c", script, options=["--entrypoint", "bash"])
    assert said.code == 0, said.err
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(said.out))) as archive:
        archive.extractall(folder / "root", filter="data")
    found = {path.name: path for path in (folder / "root").rglob("*") if path.is_file()}
    loader = next(path for name, path in found.items() if name.startswith("ld-linux"))
    libraries = ":".join(sorted({str(path.parent) for path in found.values()}))
    for name in ("mysql", "mysqldump"):
        found[name].chmod(0o755)
        loader.chmod(0o755)
        wrapper = folder / name
        wrapper.write_text(
            f'#!/bin/sh\nexec {loader} --library-path {libraries} {found[name]} "$@"\n'
        )
        wrapper.chmod(0o755)
    return folder


@dataclass
class Wiki:
    """One wiki with its own schema, folder, bucket prefix and keys."""

    server: Server
    s3: S3
    folder: Path
    schema: str
    environment: str = "staging"
    purpose: str = "staging"
    changes: dict[str, Any] = field(default_factory=dict)
    identities: list[Identity] = field(default_factory=list)
    """Who else has been given keys to the store."""

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.root.mkdir(exist_ok=True)
        self.signing = Ed25519PrivateKey.generate()
        self.opener, self.writer = (pyrage.x25519.Identity.generate() for _ in range(2))
        self.passwords = {"backup": secrets.token_hex(12), "root": self.server.password}
        pem = self.signing.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self._key("signing", pem.decode())
        self._key("opener", f"# created: now\n{self.opener}\n")
        self._key("writer", f"{self.writer}\n")
        self._key("access", self.s3.access)
        self._key("secret", self.s3.secret)
        self._key("backup", self.passwords["backup"] + "\n")
        self._key("root", self.passwords["root"])

    @property
    def root(self) -> Path:
        """XWiki's permanent directory."""
        return self.folder / "data"

    @property
    def user(self) -> str:
        """The backup account, which this wiki alone has."""
        return f"b_{self.schema}"[:32]

    @property
    def secrets(self) -> list[str]:
        """Texts that must stand in no output."""
        keys = str(self.opener).splitlines()
        pem = (self.folder / "keys" / "signing").read_text().splitlines()[1]
        held = [identity.secret for identity in self.identities]
        return [*self.passwords.values(), self.s3.secret, *held, *keys, str(self.writer), pem]

    def held_by(self, identity: Identity) -> dict[str, str]:
        """Changes of the configuration that let this identity hold it."""
        self.identities.append(identity)
        self._key(f"access-{identity.access}", identity.access)
        self._key(f"secret-{identity.access}", identity.secret)
        return {"store__accessKeyFile": self._path(f"access-{identity.access}"),
                "store__secretKeyFile": self._path(f"secret-{identity.access}")}  # fmt: skip

    @property
    def objects(self) -> Path:
        """The bucket below this wiki's prefix, as files."""
        return self.s3.objects / self.schema

    def keys(self, kind: str) -> list[str]:
        """Keys of objects whose key begins so, below the prefix, sorted."""
        found = [p.relative_to(self.objects).as_posix() for p in self.objects.rglob("*")
                 if p.is_file()]  # fmt: skip
        return sorted(key for key in found if key.startswith(kind))

    def sets(self) -> list[str]:
        """Ids of the sets that exist."""
        return [key.split("/")[2] for key in self.keys("sets/") if key.endswith("/manifest.json")]

    def create(self, grants: Mapping[str, str] | None = None) -> None:
        """The schema, its tables, and the backup account with the chart's grants."""
        self.create_schema(grants)
        self.server.sql(TABLES + ROUTINES, self.schema)

    def create_schema(self, grants: Mapping[str, str] | None = None) -> None:
        """An empty schema, and the backup account with the chart's grants."""
        given = {"*.*": GLOBAL, f"`{self.schema}`.*": PER_SCHEMA} if grants is None else grants
        lines = [f"CREATE DATABASE `{self.schema}` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;",
                 f"CREATE USER IF NOT EXISTS {self.user} IDENTIFIED BY"
                 f" '{self.passwords['backup']}';"]  # fmt: skip
        lines += [f"GRANT {rights} ON {scope} TO {self.user};" for scope, rights in given.items()]
        self.server.sql("\n".join(lines))

    def fill(self, pages: int = 5, rows: int = 60, seed: int = 1) -> None:
        """Pages with an attachment each, nasty rows, and the other files of a permanent folder."""
        chance = random.Random(seed)  # noqa: S311
        lines = []
        for number in range(pages):
            page, name, content = (
                f"Space{number}.Page",
                f"file {number}.png",
                chance.randbytes(3000 + number),
            )
            self.write(attachment_path(page, name), content)
            lines.append(attachment_rows(page, name, len(content)))
        for _ in range(rows):
            words = "".join(chance.choice(PIECES) for _ in range(chance.randrange(12)))
            data = chance.randbytes(chance.randrange(200)).hex()
            text = (
                "NULL"
                if chance.random() < 0.1
                else f"CONVERT(0x{words.encode().hex()} USING utf8mb4)"
                if words
                else "''"
            )
            lines.append(
                f"INSERT INTO nasty (words, bytes, said) VALUES ({text}, 0x{data or '00'},"
                ' \'{"a": "x\\\\\\"),(y"}\');'
            )
        self.server.sql("\n".join(lines), self.schema)
        for name, content in {
            "configuration.properties": b"key = value\n",
            "store/solr/search/index/segments_1": chance.randbytes(5000),
            "extension/repository/a.jar": chance.randbytes(20000),
            "jobs/status/x.xml.zip": b"",
            "logs/ignored.log": b"no state",
            "cache/ignored": b"no state",
            "store/file/xwiki/deleted/ünïcödé name": b"bin",
        }.items():
            self.write(name, content)
        (self.root / "empty" / "folder").mkdir(parents=True, exist_ok=True)
        if not (self.root / "link").is_symlink():
            (self.root / "link").symlink_to("configuration.properties")

    def write(self, name: str, content: bytes) -> Path:
        """A file of the permanent directory."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def attach(self, page: str, name: str, content: bytes, *, row_only: bool = False) -> Path:
        """An attachment as the stand-in keeps it: the file, then the row."""
        path = self.root / attachment_path(page, name)
        if not row_only:
            self.write(attachment_path(page, name), content)
        self.server.sql(attachment_rows(page, name, len(content)), self.schema)
        return path

    def config(self, *, account: str = "backup", name: str = "config", **changes: Any) -> Path:
        """The configuration as a file; changes replace keys by their path, `store__bucket`."""
        document: dict[str, Any] = {
            "environment": self.environment,
            "purpose": self.purpose,
            "store": {"endpoint": self.s3.endpoint, "bucket": BUCKET, "prefix": self.schema,
                      "pathStyle": True, "accessKeyFile": self._path("access"),
                      "secretKeyFile": self._path("secret")},
            "keys": {"recipients": [str(self.opener.to_public())],
                     "indexIdentityFile": self._path("writer"),
                     "identityFiles": [self._path("opener")],
                     "signingKeyFile": self._path("signing"),
                     "trusted": [signature.public_of(self.signing)]},
            "database": {"host": self.server.address, "port": self.server.port,
                         "user": "root" if account == "root" else self.user,
                         "passwordFile": self._path(account), "schemas": [self.schema],
                         "programs": str(self.server.programs)},
            "files": {"root": str(self.root)},
            "limits": {"packMiB": 1},
            "retention": {"opened": 1},
        }  # fmt: skip
        for key, value in copy.deepcopy({**self.changes, **changes}).items():
            place = document
            *folders, last = key.split("__")
            for folder in folders:
                place = place[folder]
            place[last] = value
            if value is None:
                del place[last]
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(document))
        return path

    def loaded(self, **changes: Any) -> Config:
        """The configuration, read."""
        return load(self.config(**changes))

    def destroy(self) -> None:
        """Lose everything but the bucket and the keys."""
        self.server.sql(f"DROP DATABASE IF EXISTS `{self.schema}`")
        shutil.rmtree(self.root)
        self.root.mkdir()

    def rows(self) -> dict[str, list[str]]:
        """Each table's rows as hashes, computed by the server."""
        found = {}
        for table, columns in {
            "xwikidoc": "XWD_ID, XWD_FULLNAME, XWD_CONTENT",
            "xwikiattachment": "XWA_ID, XWA_DOC_ID, XWA_FILENAME, XWA_SIZE",
            "nasty": "id, IFNULL(words, 'null'), bytes, said, twice",
            "empty_one": "id",
        }.items():
            query = f"SELECT SHA2(CONCAT_WS('|', {columns}), 256) FROM {table} ORDER BY 1"
            found[table] = self.server.sql(query, self.schema)
        return found

    def tree(self) -> dict[str, tuple[str, int, int, str]]:
        """Every path that is state: kind, mode, time in ns, hash or target."""
        found = {}
        for path in sorted(self.root.rglob("*")):
            name = path.relative_to(self.root).as_posix()
            if name.split("/")[0] in ("logs", "cache"):
                continue
            facts = path.lstat()
            content = (
                str(path.readlink()) if path.is_symlink()
                else hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            )  # fmt: skip
            mode = stat.S_IMODE(facts.st_mode)
            time = 0 if path.is_symlink() else facts.st_mtime_ns
            found[name] = (str(stat.S_IFMT(facts.st_mode)), mode, time, content)
        return found

    def _key(self, name: str, text: str) -> None:
        folder = self.folder / "keys"
        folder.mkdir(exist_ok=True)
        (folder / name).touch(0o600)
        (folder / name).write_text(text)

    def _path(self, name: str) -> str:
        return str(self.folder / "keys" / name)


def number_of(text: str) -> int:
    """An id, as XWiki makes one of a name."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


def attachment_rows(page: str, name: str, size: int) -> str:
    """The statements that make a page and an attachment of it."""
    return (f"INSERT IGNORE INTO xwikidoc VALUES ({number_of(page)}, '{page}', 'it\\'s ),(');"
            f"REPLACE INTO xwikiattachment VALUES ({number_of(page + name)}, {number_of(page)},"
            f" '{name}', {size});")  # fmt: skip


def attachment_path(page: str, name: str) -> str:
    """Where the stand-in keeps an attachment."""
    first, second = (hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
                     for text in (page, name))  # fmt: skip
    ends = "." + name.rsplit(".", 1)[1] if "." in name else ""
    return (f"store/file/xwiki/{first[:2]}/{first[2:4]}/{first[4:]}/attachments/"
            f"{second[:2]}/{second[2:4]}/{second[4:]}/f{ends}")  # fmt: skip


def command(wiki: Wiki, *words: str, apart: bool = False, **changes: Any) -> proc.Result:
    """What the command says and ends with. apart: in a process of its own, as a CronJob has it."""
    argv = ["backup", *words, "--config", str(wiki.config(name="command", **changes))]
    if apart:
        program = Path(sys.executable).parent / "xwiki-stack"
        return proc.run([program, *argv], check=False, timeout=120)
    out, err = (io.TextIOWrapper(io.BytesIO(), write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(argv)
    said, complained = (text.buffer.getvalue().decode() for text in (out, err))
    return proc.Result(tuple(argv), code, said, complained)
