"""What all parts measure on: a real MySQL, a real S3 server, a site of the chosen size, peers.

Everything is made when it is first needed, so that one part alone costs what it needs.
"""

import hashlib
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import requests

from tests.backups import mysql
from tests.backups.s3 import S3
from tests.backups.wiki import Server, Wiki, attachment_path
from tests.benchmarks.content import Content, Size
from tests.benchmarks.programs import Programs, Spent
from tests.contract import wiki as served
from tests.contract.conftest import image_under_test
from tests.contract.containers import Container, Host
from xwiki_stack import repo, steps
from xwiki_stack.backup import dump
from xwiki_stack.backup.manifest import Found, Site, listing
from xwiki_stack.backup.store import Store
from xwiki_stack.cluster import engine
from xwiki_stack.cluster.objectstore import BUCKET

SERVER = (
    "--innodb-flush-log-at-trx-commit=1",
    "--sync-binlog=1",
    "--innodb-flush-method=O_DIRECT",
    "--innodb-buffer-pool-size=1G",
    "--innodb-buffer-pool-instances=1",
)
"""As the chart sets its server (charts/mysql/files/my.cnf): what a restore costs is not made up."""

SEED = 60_000_000
"""Bytes of rows that are made here; the server repeats them, further apart than zstd looks back."""

BATCH = 8_000_000

PER_PAGE = 5
"""Attachments of a page."""

PROPERTIES = 10
"""Short rows of a page: XWiki's objects have one for each field, and most rows are such."""

DATA = "/usr/local/xwiki/data"

HEAP = "-Xmx768m"


def file_of(number: int) -> tuple[str, str]:
    """Page and name of an attachment."""
    return f"Bench.Page{number // PER_PAGE}", f"file{number}.bin"


def identity(reference: str) -> int:
    """A row's key, as the stand-in makes one: the first half of the MD5, signed."""
    digest = hashlib.md5(reference.encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


@dataclass(eq=False)
class Bed:
    """Servers and what lies on them, until `close`."""

    size: Size
    folder: Path
    emit: Callable[[str], None]
    _open: ExitStack = field(default_factory=ExitStack)
    _wikis: int = 0

    def close(self) -> None:
        """End all servers."""
        self._open.close()

    @cached_property
    def host(self) -> Host:
        """The machine's container engine."""
        engine.start(steps.Log(repo.logs() / "benchmarks-engine.log", lambda _text: None))
        made = Host(engine.require())
        made.open()
        self._open.callback(made.close)
        return made

    @cached_property
    def server(self) -> Server:
        """A MySQL server set as the chart sets its own."""
        image = image_under_test(self.host, "mysql", os.environ.get("MYSQL_IMAGE"))
        near = sys.platform == "linux"
        return mysql.start(self.host, image, self.new("client"), *SERVER, near=near)

    @cached_property
    def s3(self) -> S3:
        """An S3 server on this machine's disk."""
        made = S3(self.new("s3"))
        made.start()
        self._open.callback(made.stop)
        return made

    @cached_property
    def programs(self) -> Programs:
        """Programs with the credentials of the S3 server, in the way each peer takes them."""
        keys = {"ACCESS_KEY_ID": self.s3.access, "SECRET_ACCESS_KEY": self.s3.secret}
        rclone = {"TYPE": "s3", "PROVIDER": "Other", "ENDPOINT": self.s3.endpoint,
                  "FORCE_PATH_STYLE": "true", "NO_CHECK_BUCKET": "true", **keys}  # fmt: skip
        kept = {"PATH", "LANG", "PYENV_ROOT", repo.CACHE_VARIABLE}
        env = {
            **{name: value for name, value in os.environ.items() if name in kept},
            "HOME": str(self.new("home")),
            "TMPDIR": str(self.temporary),
            # As in the image, whose root cannot be written.
            "PYTHONDONTWRITEBYTECODE": "1",
            **{f"AWS_{name}": value for name, value in keys.items()},
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            **{f"RCLONE_CONFIG_BENCH_{name}": value for name, value in rclone.items()},
        }
        return Programs(env, self.new("run"))

    @cached_property
    def temporary(self) -> Path:
        """Where programs would put temporary files."""
        return self.new("temporary")

    @cached_property
    def tree(self) -> Path:
        """Files of the chosen number and size, where the wiki has its attachments."""
        began, made, folder = time.monotonic(), Content(1), self.new("tree")
        for number, size in enumerate(made.sizes(self.size.count, self.size.files)):
            path = folder / attachment_path(*file_of(number))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(made.bytes(size))
        self.told(f"{self.size.count} files", began)
        return folder

    @cached_property
    def site(self) -> "BenchSite":
        """A wiki with all of it: rows, files, an account for XWiki."""
        return BenchSite.make(self)

    def new(self, name: str) -> Path:
        """A new folder of the bed."""
        made = self.folder / name
        made.mkdir()
        return made

    def told(self, what: str, began: float) -> None:
        """Say how long something took to be made."""
        self.emit(f"  made {what} ({steps.clock(time.monotonic() - began)})")

    def backup(
        self,
        wiki: Wiki,
        *words: str,
        account: str = "backup",
        codes: tuple[int, ...] = (0,),
        before: tuple[str, ...] = (),
    ) -> Spent:
        """Run `xwiki-stack backup` in a process of its own, as a CronJob has it."""
        program = Path(sys.executable).parent / "xwiki-stack"
        config = wiki.config(name=f"bench-{account}", account=account)
        argv: list[str | Path] = [*before, program, "backup", *words, "--config", config]
        return self.programs.run(argv, codes=codes)

    @contextmanager
    def wiki(self, site: "BenchSite", root: Path) -> Iterator[served.Wiki]:
        """XWiki on the site's schema and a permanent directory, until the block ends."""
        image = image_under_test(self.host, "xwiki", os.environ.get("XWIKI_IMAGE"))
        self._wikis += 1
        began = time.monotonic()
        schema = served.Schema(self.server.container, self.server.password, site.wiki.schema,
                               site.password)  # fmt: skip
        container: Container = self.host.start(
            f"wiki-{self._wikis}",
            image,
            env={**schema.environment, "DB_HOST": mysql.NAME, "JAVA_OPTS": HEAP},
            options=["--publish", "127.0.0.1::8080", "-v", f"{root}:{DATA}"],
        )
        try:
            yield served.Wiki(container, schema, began, container.address())
        finally:
            container.remove()


@dataclass
class BenchSite:
    """A wiki of the chosen size; `password` is that of XWiki's own account."""

    bed: Bed
    wiki: Wiki
    password: str

    @staticmethod
    def make(bed: Bed) -> "BenchSite":
        """Rows by way of the server, files by way of a copy."""
        tree = bed.tree
        wiki = Wiki(bed.server, bed.s3, bed.new("site"), "bench", changes={"limits": {}})
        made = BenchSite(bed, wiki, secrets.token_hex(12))
        wiki.create_schema()
        name = wiki.schema
        bed.server.sql(
            f"CREATE USER {name} IDENTIFIED BY '{made.password}';"
            f"GRANT ALL ON {name}.* TO {name}; GRANT PROCESS ON *.* TO {name};"
        )
        # XWiki makes its own tables.
        with bed.wiki(made, wiki.root) as running:
            assert running.wait() == 200, running.container.logs()[-3000:]
        shutil.copytree(tree, wiki.root, dirs_exist_ok=True)
        began = time.monotonic()
        made.fill()
        bed.told(f"rows of {bed.size.sql / 1e6:.0f} MB", began)
        return made

    def fill(self) -> None:
        """Pages with their attachments, then as many old versions and properties as it takes."""
        content, seed = Content(2), min(SEED, self.bed.size.sql)
        pages = -(-self.bed.size.count // PER_PAGE)
        for number in range(pages):
            self._page(f"Bench.Page{number}", content.text(2000))
        for number in range(self.bed.size.count):
            page, name = file_of(number)
            size = (self.bed.tree / attachment_path(page, name)).stat().st_size
            self._row("xwikiattachment", f"{identity(f'{page}/{name}')},{identity(page)},'{name}',"
                      f"{size},'application/octet-stream','XWiki.Admin','1.1',0")  # fmt: skip
        bulk = 0
        for number, now, before in content.pages(seed):
            self._page(f"Bulk.Page{number}", now)
            self._row("xwikircs", f"{number},'1.1','XWiki.Admin',0,'{before}'")
            bulk += len(before) + 60
            for place in range(PROPERTIES):
                words = content.text(60)
                bulk += len(words) + 30
                self._row("xwikiproperties", f"{number},'property{place}','{words}'")
        self._flush()
        for copy in range(1, 1 + round((self.bed.size.sql - seed) / bulk)):
            shift = copy * 1_000_000_000
            self._sql(
                f"INSERT INTO xwikircs SELECT XWR_DOCID + {shift}, XWR_VERSION, XWR_AUTHOR,"
                " XWR_DATE, XWR_PATCH FROM xwikircs WHERE XWR_DOCID < 1000000000;"
                f"INSERT INTO xwikiproperties SELECT XWP_ID + {shift}, XWP_NAME, XWP_VALUE"
                " FROM xwikiproperties WHERE XWP_ID < 1000000000;"
            )

    _rows: dict[str, list[str]] = field(default_factory=dict)
    _held: int = 0

    def _page(self, reference: str, text: str) -> None:
        space, _, name = reference.partition(".")
        self._row("xwikidoc", f"{identity(reference)},'{reference}','{space}','{name}','{name}',"
                  f"'{text}','XWiki.Admin','1.1',0,0")  # fmt: skip

    def _row(self, table: str, values: str) -> None:
        self._rows.setdefault(table, []).append(f"({values})")
        self._held += len(values)
        if self._held > BATCH:
            self._flush()

    def _flush(self) -> None:
        self._sql("\n".join(f"INSERT INTO {table} VALUES {','.join(rows)};"
                            for table, rows in self._rows.items() if rows))  # fmt: skip
        self._rows, self._held = {}, 0

    def _sql(self, text: str) -> None:
        # How the rows came here is nobody's business; the log would only fill the disk.
        self.bed.server.sql(f"SET sql_log_bin = 0;{text}", self.wiki.schema, seconds=600)

    @cached_property
    def set(self) -> Found[Site]:
        """A set of all of it."""
        began = time.monotonic()
        self.bed.backup(self.wiki, "run")
        self.bed.told("a set", began)
        return self.sets()[-1]

    def sets(self) -> list[Found[Site]]:
        """All sets, oldest first."""
        return sets_of(self.wiki)

    @cached_property
    def options(self) -> Path:
        """An option file of the backup account, for peers."""
        return self.options_of(self.wiki.user, self.wiki.passwords["backup"])

    def options_of(self, user: str, password: str) -> Path:
        """An option file of an account."""
        path, server = self.bed.folder / f"{user}.cnf", self.bed.server
        path.touch(0o600)
        path.write_text(f"[client]\nhost={server.address}\nport={server.port}\n"
                        f"user={user}\npassword={password}\n")  # fmt: skip
        return path

    @property
    def mysqldump(self) -> str:
        """The very mysqldump that we run, as a part of a shell's pipeline."""
        database = self.wiki.loaded().need_database()
        words = " ".join(dump.arguments(database, binary_log=True))
        return f"{self.bed.server.programs}/mysqldump --defaults-file={self.options} {words}"

    def lose_rows(self) -> None:
        """Drop the schema, and the binary log of how it came."""
        self.bed.server.sql(
            f"DROP DATABASE IF EXISTS {self.wiki.schema}; FLUSH BINARY LOGS;"
            "PURGE BINARY LOGS BEFORE NOW() + INTERVAL 1 DAY;",
            seconds=600,
        )

    def start(self, root: Path) -> float:
        """Seconds from a container's start to an answer, a page and an attachment's right bytes."""
        page, name = file_of(0)
        space, _, short = page.partition(".")
        with self.bed.wiki(self, root) as running:
            assert running.wait() == 200, running.container.logs()[-3000:]
            found = running.get(f"/{space}/pages/{short}", user=None)
            content = running.get(f"/{space}/pages/{short}/attachments/{name}", user=None).content
            took = time.monotonic() - running.began
        assert found.status_code == requests.codes.ok
        assert content == (self.bed.tree / attachment_path(page, name)).read_bytes()
        return took


def sets_of(wiki: Wiki) -> list[Found[Site]]:
    """All sets of a wiki, oldest first."""
    config = wiki.loaded()
    return listing(Store(config), config.need_trusted(), config.environment, Site).sets


def stored(s3: S3, prefix: str) -> int:
    """Bytes of all objects below a prefix."""
    return sum(p.stat().st_size for p in (s3.objects / prefix).rglob("*") if p.is_file())


def content_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


__all__ = ["BUCKET", "Bed", "BenchSite", "content_of", "file_of", "sets_of", "stored"]
