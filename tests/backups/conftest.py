"""A MySQL server, an S3 server and wikis between them; the first two are shared by all tests."""

import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.backups import mysql
from tests.backups.live import Live, begin
from tests.backups.s3 import S3, Rclone, served
from tests.backups.wiki import Server, Wiki
from tests.contract.conftest import host, mysql_image, standin, xwiki_image
from tests.contract.containers import Host
from xwiki_stack.backup import site

__all__ = ["host", "mysql_image", "standin", "xwiki_image"]


@pytest.fixture(scope="package")
def server(
    host: Host, mysql_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A real MySQL with a binary log, reached on a port of 127.0.0.1."""
    yield mysql.start(host, mysql_image, tmp_path_factory.mktemp("client"), *mysql.QUICK)


@pytest.fixture(scope="package")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """A real S3 server."""
    with served(S3(tmp_path_factory.mktemp("s3"))) as server:
        yield server


@pytest.fixture(scope="package")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """Another one, of other people."""
    with served(Rclone(tmp_path_factory.mktemp("second"))) as server:
        yield server


@pytest.fixture
def make(server: Server, s3: S3, tmp_path: Path) -> Iterator[Callable[..., Wiki]]:
    """Makes wikis that end with the test, schema, account and all. s3: another server."""
    made: list[Wiki] = []

    def begin(**options: Any) -> Wiki:
        name = f"wiki_{secrets.token_hex(4)}"
        wiki = Wiki(server, options.pop("s3", s3), tmp_path / name, name, **options)
        made.append(wiki)
        return wiki

    yield begin
    for wiki in made:
        server.sql(f"DROP DATABASE IF EXISTS `{wiki.schema}`; DROP USER IF EXISTS {wiki.user}")


@pytest.fixture
def wiki(make: Callable[..., Wiki]) -> Wiki:
    """A wiki with pages, attachments and rows that look like dumps."""
    made = make()
    made.create()
    made.fill()
    return made


@pytest.fixture(scope="module")
def go_live(
    host: Host, xwiki_image: str, server: Server, s3: S3, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Live]]:
    """Starts wikis that run until the module ends; given variables of their environment."""
    made: list[Live] = []

    def start(env: Mapping[str, str] | None = None) -> Live:
        folder = tmp_path_factory.mktemp("live")
        made.append(begin(host, xwiki_image, server=server, s3=s3, folder=folder, env=env))
        return made[-1]

    yield start
    for live in made:
        live.stop()


@pytest.fixture(autouse=True)
def quiet_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No credentials and no proxies of this machine have a part in it; looking again is quick."""
    monkeypatch.setattr(site, "LOOP_SECONDS", 0.05)
    for name in [*os.environ]:
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
