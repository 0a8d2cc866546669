"""A drill finds a whole wiki whole, and whatever is wrong with one it names.

A wiki lives in a container (the stand-in, or XWiki's own image) on the tests' MySQL, and is saved.
The drill brings it back on a MySQL beside, where a second container starts once it is let.
"""

import secrets
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.backups.mysql import QUICK as AT_ONCE
from tests.backups.mysql import start
from tests.backups.s3 import S3, documented
from tests.backups.test_damage import overwrite
from tests.backups.test_sets import silent
from tests.backups.wiki import Server, Wiki, attachment_path, command
from tests.contract.conftest import QUICK
from tests.contract.containers import Container, Host
from xwiki_stack import proc
from xwiki_stack.backup import canary, drill, evidence, mysql, site, xar
from xwiki_stack.backup.config import Config, load
from xwiki_stack.backup.manifest import Site
from xwiki_stack.backup.probes import HOME
from xwiki_stack.backup.store import Store
from xwiki_stack.backup.web import Web
from xwiki_stack.cluster.objectstore import BUCKET
from xwiki_stack.desk import HOLDERS
from xwiki_stack.errors import IntentError, MachineError, RefusedError, UnhealthyError

GREEN = ["tables", "attachments", "rest", "home", "login", "canary-page", "canary-attachment",
         "wikis"]  # fmt: skip

STEPS = {"database", "restore", "open", "load", "write", "tables", "attachments", "start", "probes"}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@dataclass
class Place:
    """A server with an account for a wiki, and the folder of its volume."""

    host: Host
    image: str
    server: Server
    folder: Path
    schema: str
    password: str = field(default_factory=lambda: secrets.token_hex(12))
    port: int = field(default_factory=free_port)
    running: list[Container] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def account(self) -> None:
        """Who may make and fill the schema, as the chart's account may."""
        self.server.sql(
            f"CREATE USER IF NOT EXISTS w_{self.schema} IDENTIFIED BY '{self.password}';"
            f"GRANT PROCESS ON *.* TO w_{self.schema};"
            f"GRANT ALL ON `{self.schema}`.* TO w_{self.schema};"
        )

    def start(self, **more: str) -> None:
        """Start a wiki here; its superadmin has the password of the account."""
        name = f"{self.server.container.name.rpartition('-')[2]}-wiki-{secrets.token_hex(2)}"
        env = {
            "DB_HOST": self.server.container.name.rpartition("-")[2],
            "DB_USER": f"w_{self.schema}",
            "DB_DATABASE": self.schema,
            "DB_PASSWORD": self.password,
            "JAVA_OPTS": QUICK,
            "XCONF_xwikicfg_xwiki_superadminpassword": self.password,
            "XCONF_xwikiproperties_distribution_automaticStartOnMainWiki": "false",
            **more,
        }
        options = ["--publish", f"127.0.0.1:{self.port}:8080", "-v",
                   f"{self.folder}:/usr/local/xwiki"]  # fmt: skip
        self.running.append(self.host.start(name, self.image, env=env, options=options))

    def end(self) -> None:
        """End the wikis that were started here."""
        while self.running:
            self.running.pop().remove()


@dataclass
class Living:
    """A wiki that runs and is saved, and the place where drills bring it back."""

    wiki: Wiki
    here: Place
    beside: Place

    def config(self, place: Place, **changes: Any) -> Path:
        """The configuration of who works at a place."""
        (self.wiki.folder / "web").write_text(place.password)
        return self.wiki.config(
            account="root" if place is self.beside else "backup",
            name="drill" if place is self.beside else "live",
            **{"database__port": place.server.port, "files__root": str(place.folder / "data"),
               "web": {"url": place.url, "passwordFile": str(self.wiki.folder / "web")}, **changes},
        )  # fmt: skip

    def live(self, **changes: Any) -> Config:
        """As who saves the living wiki."""
        return load(self.config(self.here, **changes))

    def trying(self, **changes: Any) -> Path:
        """As the drill's own pod."""
        own = {"drill": {"marker": str(self.marker)},
               "database__passwordFile": str(self.wiki.folder / "beside")}  # fmt: skip
        return self.config(self.beside, **{**own, **changes})

    @property
    def marker(self) -> Path:
        return self.wiki.folder / "restored"

    def save(self) -> str:
        """Make a set of the wiki as it is, proven intact; its id."""
        made = site.run(self.live(), silent).found.manifest.id
        assert command(self.wiki, "verify", made).code == 0
        return made

    def drill(self, *words: str, settings: dict[str, str] | None = None,
              **changes: Any) -> proc.Result:  # fmt: skip
        """What the command says, with a wiki beside it that starts once it is let.

        settings: environment of that wiki.
        """
        config = self.trying(**changes)
        over = threading.Event()

        def wait() -> None:
            while not over.wait(0.05) and not self.beside.running:
                if self.marker.exists():
                    self.beside.start(**(settings or {}))

        waiting = threading.Thread(target=wait)
        waiting.start()
        try:
            return command_with(config, *words)
        finally:
            over.set()
            waiting.join()

    def records(self, kind: str = evidence.DRILL) -> list[evidence.Record]:
        """What is believed of drills, oldest first: only what the right key signed."""
        known = self.live()
        found = evidence.read(Store(known), known.need_trusted())
        return [record for record in found if record.kind == kind]

    def tidy(self) -> None:
        """The place of drills as its pod finds it: empty."""
        self.beside.end()
        self.marker.unlink(missing_ok=True)
        shutil.rmtree(self.beside.folder / "data", ignore_errors=True)
        (self.beside.folder / "data").mkdir(parents=True)
        self.beside.server.sql(f"DROP DATABASE IF EXISTS `{self.wiki.schema}`")
        self.beside.account()


def command_with(config: Path, *words: str) -> proc.Result:
    """`xwiki-stack backup` as a process of its own."""
    import sys

    program = Path(sys.executable).parent / "xwiki-stack"
    return proc.run([program, "backup", *words, "--config", config], check=False, timeout=180)


@pytest.fixture(scope="module")
def servers(
    host: Host, server: Server, mysql_image: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Server]:
    """That of the living wiki, and the one that drills restore into."""
    second = start(host, mysql_image, tmp_path_factory.mktemp("client"), *AT_ONCE, name="beside")
    return {"here": server, "beside": second}


@pytest.fixture(scope="module")
def living(
    host: Host,
    standin: str,
    servers: dict[str, Server],
    s3: S3,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Living]:
    """A wiki with a first page, an attachment and a canary."""
    folder, schema = tmp_path_factory.mktemp("drill"), f"wiki_{secrets.token_hex(4)}"
    wiki = Wiki(servers["here"], s3, folder / "wiki", schema)
    wiki.create_schema()
    here, beside = (
        Place(host, standin, server, folder / name, schema) for name, server in servers.items()
    )
    made = Living(wiki, here, beside)
    (wiki.folder / "beside").write_text(beside.server.password)
    here.account()
    here.start()
    web = Web(made.live())
    until(web.version)
    web.put_page(HOME, "Welcome & more", "content")
    web.put_attachment(HOME, "file 1.png", secrets.token_bytes(5000))
    yield made
    here.end()
    made.tidy()


def until(look: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            look()
            return
        except Exception:
            if time.monotonic() > end:
                raise
            time.sleep(0.3)


@pytest.fixture(autouse=True)
def tidy(living: Living) -> Iterator[None]:
    """Each drill starts with an empty place, and a wiki that is whole and has a fresh canary."""
    living.tidy()
    rename(living, "Main.Old", HOME)
    for _ in canary.ATTACHMENTS:
        canary.write(living.live())
    yield


def test_a_whole_wiki_is_brought_back_started_and_found_whole(living: Living) -> None:
    """With the rights at the store that are documented for who drills, and no more."""
    made, s3 = living.save(), living.wiki.s3
    who = {name: s3.identity() for name in HOLDERS}
    own: dict[str, Any] = living.wiki.held_by(who["drill"])
    s3.allow(documented(living.wiki.schema, who))
    try:
        said = living.drill("drill", **own)
    finally:
        s3.client().delete_bucket_policy(Bucket=BUCKET)
    assert said.code == 0, said.out + said.err
    (record,) = living.records()
    assert (record.set, record.held, record.kind) == (made, True, "drill")
    assert record.facts["green"] == GREEN
    assert record.facts["failed"] == {}
    assert record.facts["steps"].keys() == STEPS
    assert 0 < record.facts["rto_seconds"] <= record.seconds < 120
    assert record.facts["objective_seconds"] == 7200
    assert record.facts["load_bytes_per_second"] > 0
    counts = record.facts["counts"]
    assert counts["attachments"] >= 2 and counts["files"] > 2 and counts["rows"] > 5
    assert record.facts["versions"].keys() == {"mysql", "xwiki"}
    # The restore opened all of it, which is a proof that prune counts.
    assert [item.set for item in living.records(evidence.OPENED) if item.held] == [made]
    told = command_with(living.trying(web=None), "status")
    assert f"{made}, " in told.out and "back in " in told.out
    assert "problem" not in told.out, told.out
    assert not [s for s in [*living.wiki.secrets, living.beside.password] if s in said.out]


def lose_bytes(living: Living) -> None:
    """The canary's attachment has other bytes of the same number."""
    path = living.here.folder / "data" / attachment_path(canary.PAGE, turn(living))
    path.write_bytes(secrets.token_bytes(len(path.read_bytes())))


def lose_page(living: Living) -> None:
    """The canary's page is no longer among the rows."""
    living.here.server.sql(
        "DELETE FROM xwikiattachment WHERE XWA_FILENAME LIKE 'canary-%';"
        f"DELETE FROM xwikidoc WHERE XWD_FULLNAME = '{canary.PAGE}'",
        living.wiki.schema,
    )


def lose_file(living: Living) -> None:
    """An attachment has its row and no file."""
    (living.here.folder / "data" / attachment_path(canary.PAGE, turn(living))).unlink()


def lose_home(living: Living) -> None:
    """The first page is no longer among the rows."""
    rename(living, HOME, "Main.Old")


def rename(living: Living, old: str, new: str) -> None:
    living.here.server.sql(
        f"UPDATE xwikidoc SET XWD_FULLNAME = '{new}' WHERE XWD_FULLNAME = '{old}'",
        living.wiki.schema,
    )


def turn(living: Living) -> str:
    return canary.read(Web(living.live())).attachment


@pytest.mark.parametrize(
    ("poison", "named"),
    [
        (lose_bytes, {"canary-attachment"}),
        (lose_page, {"canary-page", "canary-attachment"}),
        (lose_file, {"attachments", "canary-attachment"}),
        (lose_home, {"attachments", "home"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_set_of_a_wiki_that_is_not_whole_fails_by_name(
    living: Living,
    poison: Callable[[Living], None],
    named: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The negative control: sets with valid signatures, intact and opened, of a poisoned wiki."""
    # A run that compares nothing, as one with a defect would.
    monkeypatch.setattr(site._Producer, "_compare", lambda *_: None)
    poison(living)
    made = living.save()
    assert command_with(living.config(living.here), "verify", made, "--opened").code == 0
    said = living.drill("drill", made)
    assert said.code == 9, said.out + said.err
    record = living.records()[-1]
    assert (record.set, record.held) == (made, False)
    assert record.facts["failed"].keys() == named
    assert "rto_seconds" not in record.facts
    assert all(name in said.err for name in named)
    told = command_with(living.trying(), "status")
    assert told.code == 5 and "the last site drill failed" in told.out


def test_a_wiki_that_serves_something_else_than_its_pages_fails_by_name(living: Living) -> None:
    made = living.save()
    # A wizard in the place of each page, with 200; and another wiki's schema than the set has.
    wizard = {"XCONF_xwikiproperties_distribution_automaticStartOnMainWiki": "true"}
    said = living.drill("drill", made, settings=wizard, database__mainWiki="other")
    assert said.code == 9, said.out + said.err
    failed = living.records()[-1].facts["failed"]
    assert failed.keys() == {"home", "wikis", "attachments"}
    assert "'Distribution Wizard'" in failed["home"]
    assert "xwiki are served, the set has other" in failed["wikis"]


def test_a_table_that_is_not_whole_is_told(living: Living) -> None:
    root = {"database__port": living.here.server.port,
            "database__passwordFile": str(living.wiki.folder / "keys" / "root")}  # fmt: skip
    server = mysql.Server(load(living.trying(**root)))
    whole, lost = (f"{living.wiki.schema}.{name}" for name in ("xwikidoc", "nothing"))
    assert list(server.broken([whole, lost])) == [lost]


def test_a_set_with_flipped_bytes_fails_before_anything_is_written(living: Living) -> None:
    made = living.save()
    (key, *_) = [key for key in living.wiki.keys("sets/") if made in key and "db.sql" in key]
    path = living.wiki.objects / key
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    overwrite(path, bytes(damaged))
    said = living.drill("drill", made)
    assert said.code == 9, said.out + said.err
    record = living.records()[-1]
    assert record.facts["failed"].keys() == {"restore"}
    assert not living.marker.exists(), "XWiki was not let start"
    assert list((living.beside.folder / "data").iterdir()) == []
    opened = [item for item in living.records(evidence.OPENED) if item.set == made]
    assert [item.held for item in opened] == [False]
    # It is no longer a set that would be tried.
    with pytest.raises(IntentError, match="no set is proven"):
        known = living.live(drill={})
        drill.pick([found(living, made)], evidence.read(Store(known), known.need_trusted()),
                   older=False)  # fmt: skip


def found(living: Living, name: str) -> Any:
    from xwiki_stack.backup import manifest

    known = living.live()
    return manifest.fetch(Store(known), name, known.need_trusted(), known.environment, Site)


def test_an_export_comes_into_an_empty_wiki_and_is_found_whole(living: Living) -> None:
    made = xar.run(living.live(), silent).found.manifest.id
    assert command_with(living.config(living.here), "verify", made).code == 0
    said = living.drill("drill", "--kind", "xar")
    assert said.code == 0, said.out + said.err
    record = living.records()[-1]
    assert (record.set, record.sets, record.held) == (made, "xar", True)
    assert record.facts["green"] == ["rest", "home", "login", "canary-page", "canary-attachment"]
    assert record.facts["counts"]["pages"] >= 3 and record.facts["counts"]["attachments"] >= 2
    assert record.facts["steps"].keys() == {"database", "start", "restore", "probes"}
    assert [r.set for r in living.records(evidence.OPENED) if r.sets == "xar"] == [made]


def test_an_export_of_a_poisoned_wiki_fails_by_name(living: Living) -> None:
    lose_bytes(living)
    made = xar.run(living.live(), silent).found.manifest.id
    said = living.drill("drill", made, "--kind", "xar")
    assert said.code == 9, said.out + said.err
    assert living.records()[-1].facts["failed"].keys() == {"canary-attachment"}
    told = command_with(living.trying(), "status")
    assert "the last xar drill failed: canary-attachment" in told.out


def test_a_canary_of_another_time_than_the_set_is_no_canary(living: Living) -> None:
    made = living.save()
    said = living.drill("drill", made, rpoHours=1)
    assert said.code == 0, said.err
    living.tidy()
    # As if the set were older: a dump of a database that stood still has an old canary.
    old = f"{datetime.now(UTC) - timedelta(hours=2):%Y-%m-%dT%H:%M:%SZ}"
    now = canary.read(Web(living.live()))
    said_old = canary.Canary(old, now.token, now.attachment, now.sha256)
    Web(living.live()).put_page(canary.PAGE, canary.TITLE, said_old.text)
    said = living.drill("drill", living.save(), rpoHours=1)
    assert said.code == 9
    assert "at most 1 h may lie between" in said.err


def test_a_set_of_another_environment_from_before_canaries_may_lack_one(living: Living) -> None:
    lose_page(living)
    made = living.save()
    tomorrow = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d}"
    # By another environment, which says whose sets it tries.
    own = {"marker": str(living.marker), "canarySince": tomorrow, "source": "staging"}
    home: dict[str, Any] = {"environment": "rehearsal", "host": "rehearsal.example.org"}
    said = living.drill("drill", made, drill=own, **home)
    assert said.code == 0, said.err
    assert living.records()[-1].facts["green"] == [
        name for name in GREEN if name != "canary-attachment"
    ]


def test_a_wiki_that_does_not_start_leaves_a_record(
    living: Living, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = living.save()
    monkeypatch.setattr(drill, "PAUSE_SECONDS", 0.05)
    known = load(living.trying(drill={"marker": str(living.marker), "wikiMinutes": 1}))
    monkeypatch.setattr(drill, "_until", briefly(drill._until))
    with pytest.raises(MachineError, match="no connection after"):
        drill.drill(known, drill.Wish(made), silent)
    record = living.records()[-1]
    assert record.facts["failed"].keys() == {"start"}
    assert record.facts["counts"]["tables"] > 3, "what was done before is told"


def test_a_wiki_that_is_back_too_late_is_told_as_that(
    living: Living, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = living.save()

    def late(trial: drill._Trial) -> None:
        trial.outcome.rto = 7201

    monkeypatch.setattr(drill._Trial, "do", late)
    with pytest.raises(UnhealthyError, match="was back after 120 min 01 s, 2 h are promised"):
        drill.drill(load(living.trying()), drill.Wish(made), silent)
    record = living.records()[-1]
    assert not record.held
    assert record.facts["rto_seconds"] == 7201 > record.facts["objective_seconds"]


def briefly(until: Callable[..., Any]) -> Callable[..., Any]:
    return lambda _minutes, look: until(0.01, look)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"purpose": "prod"}, "a drill never runs in production"),
        ({"database__host": "xwiki-stack-mysql"}, "database.host: xwiki-stack-mysql is not beside"),
        ({"web__url": "http://xwiki-stack-xwiki:8080"}, "web.url: xwiki-stack-xwiki is not beside"),
    ],
)
def test_a_drill_touches_nobodys_wiki(living: Living, changes: dict[str, Any], words: str) -> None:
    before = living.records()
    said = command_with(living.trying(**changes), "drill")
    assert said.code == 6 and words in said.err, said.err
    living.marker.touch()
    with pytest.raises(RefusedError, match="XWiki was let start"):
        drill.drill(load(living.trying()), drill.Wish(), silent)
    assert living.records() == before


def test_a_canary_is_new_each_time_and_takes_the_other_attachment(living: Living) -> None:
    first, second, third = (canary.write(living.live()) for _ in range(3))
    assert len({item.token for item in (first, second, third)}) == 3
    assert first.attachment == third.attachment != second.attachment
    said = command_with(living.config(living.here), "canary")
    assert said.code == 0 and "token" in said.out, said.err


@pytest.mark.parametrize(("cut", "status"), [(True, 500), (False, 200)], ids=["cut", "control"])
def test_the_wiki_of_a_drill_reaches_nothing_outside_its_pod(
    living: Living, cut: bool, status: int
) -> None:
    """By the chart's own options: here its database is elsewhere, as a mail server would be."""
    from tests.render.test_drill import container, env

    options = env(container("xwiki"))["JAVA_TOOL_OPTIONS"] if cut else ""
    living.beside.server.sql(f"CREATE DATABASE `{living.wiki.schema}`")
    living.beside.start(JAVA_TOOL_OPTIONS=options, STANDIN_DATABASE_TRIES="1")
    web = Web(load(living.trying()))
    until(lambda: web.expect("GET", "/rest", allowed=(status,)))
    assert ("Communications link failure" in living.beside.running[0].logs()) is cut
