"""What Prometheus is told of real signed sets and records in a real bucket, and of a bucket that
is slow, gone or not ours."""

import contextlib
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client.parser import text_string_to_metric_families

from tests.backups.proxy import HOLD, Answer, proxy
from tests.backups.s3 import S3
from tests.backups.wiki import Wiki, command
from tests.e2e.patience import eventually
from xwiki_stack import cli, proc, repo
from xwiki_stack.backup import config, evidence, lock, manifest, metrics, signature
from xwiki_stack.backup.manifest import Artefact, Found, Pack, Site
from xwiki_stack.backup.store import Store
from xwiki_stack.backup.words import stamp
from xwiki_stack.cluster.objectstore import BUCKET
from xwiki_stack.errors import StoreError

NOW = datetime.now(UTC).replace(microsecond=0)

Values = dict[tuple[str, ...], float]


@dataclass
class Bucket:
    """A prefix of a real bucket, and keys; sets are as large as they are told to be."""

    s3: S3
    folder: Path
    environment: str = "staging"
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    def __post_init__(self) -> None:
        self.prefix = f"metrics-{secrets.token_hex(4)}"
        for name, text in {"access": self.s3.access, "secret": self.s3.secret}.items():
            (self.folder / name).write_text(text)

    def file(self, **store: Any) -> Path:
        """The configuration as an exporter has it: no key but public ones."""
        path = self.folder / "exporter.yaml"
        path.write_text(
            yaml.safe_dump(
                {
                    "environment": self.environment,
                    "purpose": "staging",
                    "store": {
                        "endpoint": self.s3.endpoint,
                        "bucket": BUCKET,
                        "prefix": self.prefix,
                        "pathStyle": True,
                        "accessKeyFile": str(self.folder / "access"),
                        "secretKeyFile": str(self.folder / "secret"),
                        **store,
                    },
                    "keys": {"trusted": [signature.public_of(self.key)]},
                }
            )
        )
        return path

    def exporter(self, every: float = 300, **store: Any) -> metrics.Exporter:
        return metrics.Exporter(config.load(self.file(**store)), every, lambda _line: None)

    def store(self) -> Store:
        return Store(config.load(self.file()))

    def set(self, age: timedelta, size: int = 1000, environment: str = "") -> Found[Site]:
        """A set with objects of so many bytes in all."""
        name, store = manifest.new_id(NOW - age), self.store()
        parts = {}
        for part in ("db.sql.zst.age", "index.zst.age"):
            parts[part] = manifest.key_of(manifest.SITE, name, part)
            store.put_new(parts[part], b"x" * 10)
        pack = Pack(f"packs/{name}/{secrets.token_hex(16)}", 20, "0")
        store.put_new(pack.key, b"x" * 20)
        made = Site(
            id=name, environment=environment or self.environment, snapshot="", tool="0",
            server="9.7.1", mysqldump="9.7.1", position={}, schemas=["xwiki"], tables={},
            database=Artefact(parts["db.sql.zst.age"], size, "0", 10, "0"),
            index=Artefact(parts["index.zst.age"], 7, "0", 10, "0"), packs=[pack],
            generation={"id": name, "number": 1, "began": ""},
            files={"count": 1, "bytes": 2 * size}, attachments={}, producers={}, recipients=[],
        )  # fmt: skip
        return manifest.publish(store, made, self.key)

    def say(self, found: Found[Site], kind: str, age: timedelta, **other: Any) -> None:
        """A record on a set."""
        said = evidence.Record(
            found.manifest.id, found.sha256, kind, True, stamp(NOW - age), 1, 1, "words"
        )
        evidence.write(self.store(), replace(said, **other), self.key)


@pytest.fixture
def bucket(s3: S3, tmp_path: Path) -> Bucket:
    return Bucket(s3, tmp_path)


def values(text: str) -> Values:
    """Name without prefix, and the labels beside environment, to the number."""
    found: Values = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("environment")
            name = sample.name.removeprefix(metrics.PREFIX)
            found[(name, *labels.values())] = sample.value
    return found


def read(exporter: metrics.Exporter) -> Values:
    exporter.read()
    return values(exporter.text())


def at(age: timedelta) -> float:
    return (NOW - age).timestamp()


def hours(number: float) -> timedelta:
    return timedelta(hours=number)


def test_an_empty_bucket_has_no_sets_and_no_ages(bucket: Bucket) -> None:
    found = read(bucket.exporter())
    assert found[("up",)] == 1
    assert found[("sets", "site")] == 0
    assert found[("run_failed", "site")] == 0
    assert abs(found[("clock_skew_seconds",)]) < 5
    assert time.time() - found[("last_read_timestamp_seconds",)] < 30
    assert not [name for name in found if "snapshot" in name[0] or "proven" in name[0]]


def test_ages_sizes_and_proofs_are_those_of_the_signed_documents(bucket: Bucket) -> None:
    old, middle = bucket.set(hours(30), 500), bucket.set(hours(18), 900)
    newest = bucket.set(hours(6), 1000)
    bucket.say(old, evidence.INTACT, hours(25))
    bucket.say(old, evidence.OPENED, hours(24))
    bucket.say(middle, evidence.INTACT, hours(12))
    bucket.say(newest, evidence.INTACT, hours(1), held=False)
    # Of another manifest: it speaks of a set that was replaced.
    bucket.say(newest, evidence.OPENED, hours(1), manifest="0")
    found = read(bucket.exporter())
    assert found[("sets", "site")] == 3
    assert found[("newest_snapshot_timestamp_seconds", "site")] == at(hours(6))
    assert found[("oldest_snapshot_timestamp_seconds", "site")] == at(hours(30))
    assert found[("part_bytes", "site", "database")] == 1000
    assert found[("part_bytes", "site", "files")] == 2000
    assert found[("part_bytes", "site", "index")] == 7
    assert found[("stored_bytes", "site")] == 40
    assert found[("missing_objects", "site")] == 0
    intact, opened = ("site", "intact"), ("site", "opened")
    assert found[("proven_snapshot_timestamp_seconds", *intact)] == at(hours(18))
    assert found[("proven_timestamp_seconds", *intact)] == at(hours(12))
    assert found[("unproven_since_timestamp_seconds", *intact)] == at(hours(6))
    assert found[("failed_proofs", *intact)] == 1
    assert found[("proven_snapshot_timestamp_seconds", *opened)] == at(hours(30))
    assert found[("unproven_since_timestamp_seconds", *opened)] == at(hours(18))
    assert found[("failed_proofs", *opened)] == 0
    bucket.say(newest, evidence.INTACT, hours(0))
    found = read(bucket.exporter())
    assert ("unproven_since_timestamp_seconds", *intact) not in found
    assert found[("failed_proofs", *intact)] == 0


def test_what_is_usual_is_the_median_of_seven_sets_and_unknown_before(bucket: Bucket) -> None:
    for number in range(7):
        bucket.set(hours(100 - number), 100 * (number + 1))
    name = ("part_usual_bytes", "site", "database")
    assert name not in read(bucket.exporter())
    bucket.set(hours(1), 9)
    found = read(bucket.exporter())
    assert found[name] == 400
    assert found[("part_bytes", "site", "database")] == 9
    bucket.set(hours(0), 5000)
    assert read(bucket.exporter())[name] == 400


def test_an_object_that_is_gone_or_cut_is_missed_without_reading_it(bucket: Bucket) -> None:
    made = bucket.set(hours(1)).manifest
    home = bucket.s3.objects / bucket.prefix
    (home / made.database.key).unlink()
    (home / made.packs[0].key).write_bytes(b"cut")
    assert read(bucket.exporter())[("missing_objects", "site")] == 2


def test_runs_drills_prunes_and_locks_are_told(bucket: Bucket) -> None:
    made = bucket.set(hours(50))
    failed = manifest.new_id(NOW - hours(5))
    store = bucket.store()
    run = evidence.Record(failed, "", evidence.RUN, False, stamp(NOW), 1, 1, "no", misses=3)
    evidence.write(store, run, bucket.key)
    bucket.say(made, evidence.DRILL, hours(60), facts={"rto_seconds": 100})
    bucket.say(made, evidence.DRILL, hours(40), held=False, facts={"rto_seconds": 4000})
    bucket.say(made, evidence.PRUNE, hours(3), facts={"dropped": 2, "kept": 9, "bytes": 77})
    exporter = bucket.exporter()
    with lock.hold(store, "site", 375):
        found = read(exporter)
        since = found[("lock_held_since_timestamp_seconds", "site")]
        assert abs(since - time.time()) < 10
        assert found[("lock_limit_seconds", "site")] == 375 * 60
    assert found[("run_failed", "site")] == 1
    assert found[("run_misses", "site")] == 3
    assert found[("drill_timestamp_seconds", "site")] == at(hours(40))
    assert found[("drill_held", "site")] == 0
    assert found[("drill_rto_seconds", "site")] == 4000
    assert found[("prune_timestamp_seconds", "site")] == at(hours(3))
    assert found[("prune_dropped_sets", "site")] == 2
    assert found[("prune_kept_sets", "site")] == 9
    assert found[("prune_freed_bytes", "site")] == 77
    bucket.set(hours(1))
    found = read(exporter)
    assert found[("run_failed", "site")] == found[("run_misses", "site")] == 0
    assert not [name for name in found if name[0].startswith("lock_")]


def test_another_kind_of_sets_has_its_own_numbers(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records of one kind say nothing of the other."""

    class Other(Site):
        KIND = "other"

    monkeypatch.setattr(manifest, "KINDS", {"site": Site, "other": Other})
    made = bucket.set(hours(1))
    bucket.say(made, evidence.DRILL, hours(1), sets="other", facts={})
    found = read(bucket.exporter())
    assert found[("sets", "site")] == 1
    assert found[("sets", "other")] == 0
    assert ("drill_held", "other") in found
    assert ("drill_held", "site") not in found


def test_what_no_trusted_key_signed_counts_for_nothing(bucket: Bucket) -> None:
    bucket.set(hours(9))
    other = replace(bucket, key=Ed25519PrivateKey.generate())
    other.prefix = bucket.prefix
    other.say(other.set(hours(1)), evidence.DRILL, hours(1))
    bucket.set(hours(0.5), environment="prod")
    found = read(bucket.exporter())
    assert found[("sets", "site")] == 1
    assert found[("unreadable_manifests", "site")] == 2
    assert found[("newest_snapshot_timestamp_seconds", "site")] == at(hours(9))
    assert ("drill_held", "site") not in found


def test_what_has_not_changed_is_asked_for_once(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = Store.get_with_etag

    def counted(self: Store, name: str, *, limit: int = 1) -> tuple[bytes, str]:
        asked.append(name)
        return real(self, name)

    monkeypatch.setattr(Store, "get_with_etag", counted)
    made = bucket.set(hours(2))
    bucket.say(made, evidence.INTACT, hours(1))
    exporter = bucket.exporter()
    first = read(exporter)
    assert len(asked) == 2
    assert read(exporter)[("sets", "site")] == first[("sets", "site")] == 1
    assert len(asked) == 2
    # Written anew, by another hand: the etag is another one.
    key = manifest.key_of(manifest.SITE, made.manifest.id)
    bucket.store().put(key, b"not a manifest")
    found = read(exporter)
    assert found[("sets", "site")] == 0
    assert found[("unreadable_manifests", "site")] == 1


@contextlib.contextmanager
def serving(exporter: metrics.Exporter) -> Iterator[str]:
    """Where an exporter answers."""
    server = exporter.serve("127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()


def test_a_scrape_answers_at_once_while_a_reading_hangs(bucket: Bucket) -> None:
    bucket.set(hours(3))
    with proxy(bucket.s3.port, lambda _: None) as between:
        exporter = bucket.exporter(every=0.3, endpoint=between.endpoint)
        exporter.read()
        between.fault = lambda _: HOLD

        def read() -> None:
            with contextlib.suppress(StoreError):
                exporter.read()

        reading = threading.Thread(target=read, daemon=True)
        reading.start()
        with serving(exporter) as url:
            time.sleep(1.2)
            began = time.monotonic()
            found = values(requests.get(url, timeout=5).text)
            assert time.monotonic() - began < 0.5
        assert reading.is_alive()
        assert found[("up",)] == 0, "the last reading is too old"
        assert found[("newest_snapshot_timestamp_seconds", "site")] == at(hours(3))


def test_a_reading_that_fails_half_way_leaves_the_last_one_standing(bucket: Bucket) -> None:
    bucket.set(hours(3))
    with proxy(bucket.s3.port, lambda _: None) as between:
        exporter = bucket.exporter(endpoint=between.endpoint)
        before = read(exporter)
        bucket.set(hours(1))
        between.fault = lambda asked: Answer(403, "AccessDenied") if asked.kind == "get" else None
        with pytest.raises(StoreError, match="AccessDenied"):
            exporter.read()
        assert values(exporter.text()) == {**before, ("up",): 0}


def test_a_clock_that_is_wrong_is_told(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = datetime.now(UTC) + timedelta(minutes=20)
    monkeypatch.setattr(Store, "now", lambda _self: ahead)
    assert -1205 < read(bucket.exporter())[("clock_skew_seconds",)] < -1190


def test_a_bucket_that_is_gone_is_told_and_the_process_stays(s3: S3, tmp_path: Path) -> None:
    """As a process of its own, over its whole life."""
    own = S3(tmp_path / "server")
    own.start()
    try:
        bucket = Bucket(own, tmp_path)
        bucket.set(hours(3))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with running(bucket.file(), port, tmp_path) as scrape:
            eventually(lambda: scrape().get(("up",)) == 1, seconds=30, pause=0.2)
            own.stop()
            eventually(lambda: scrape()[("up",)] == 0, seconds=40, pause=0.2)
            assert scrape()[("newest_snapshot_timestamp_seconds", "site")] == at(hours(3))
            own.start()
            eventually(lambda: scrape()[("up",)] == 1, seconds=40, pause=0.2)
        said = (tmp_path / "exporter.log").read_text()
        assert "next: see whether" in said
        assert "the bucket is read again" in said
        assert own.secret not in said
        assert "Traceback" not in said
    finally:
        own.stop()


@contextlib.contextmanager
def running(path: Path, port: int, folder: Path) -> Iterator[Any]:
    """The command as the Deployment runs it; gives what scrapes it."""
    program = Path(sys.executable).parent / "xwiki-stack"
    words = ("--listen", f"127.0.0.1:{port}", "--every", "1")
    pid_file = folder / "exporter.pid"
    proc.spawn(
        [program, "backup", "exporter", "--config", path, *words],
        log=folder / "exporter.log",
        pid_file=pid_file,
        env={"PATH": os.environ["PATH"]},
    )

    def scrape() -> Values:
        try:
            return values(requests.get(f"http://127.0.0.1:{port}/metrics", timeout=5).text)
        except requests.ConnectionError:
            return {}

    try:
        yield scrape
    finally:
        proc.end(pid_file)


def test_one_reading_is_printed_and_what_fails_is_one_line(
    bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    bucket.set(hours(1))
    assert cli.main(["backup", "exporter", "--once", "--config", str(bucket.file())]) == 0
    assert values(capsys.readouterr().out)[("up",)] == 1
    nowhere = bucket.file(bucket="no-such-bucket")
    assert cli.main(["backup", "exporter", "--once", "--config", str(nowhere)]) == 10
    said = capsys.readouterr()
    assert values(said.out) == {("up",): 0}
    assert len(said.err.splitlines()) == 1
    assert "make the bucket" in said.err
    assert bucket.s3.secret not in said.out + said.err


@pytest.mark.parametrize("words", [("--listen", "9105x"), ("--every", "0"), ("--listen", ":70000")])
def test_an_address_that_cannot_be_meant_is_refused(
    bucket: Bucket, capsys: pytest.CaptureFixture[str], words: tuple[str, str]
) -> None:
    assert cli.main(["backup", "exporter", *words, "--config", str(bucket.file())]) == 2
    assert "cannot be meant" in capsys.readouterr().err


def test_a_port_that_is_taken_is_one_line(
    bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = ["--listen", f"127.0.0.1:{taken.getsockname()[1]}"]
        assert cli.main(["backup", "exporter", *words, "--config", str(bucket.file())]) == 3
    assert "cannot be listened on" in capsys.readouterr().err


def test_every_gauge_is_told_by_some_reading_and_documented() -> None:
    table = (repo.ROOT / "docs" / "reference" / "backups.md").read_text()
    source = (repo.ROOT / "scripts/xwiki_stack/backup/metrics.py").read_text()
    assert len(metrics.GAUGES) > 20
    for name, words in metrics.GAUGES.items():
        assert source.count(f'"{name}"') >= 2, f"nothing tells {name}"
        assert f"| `{name}` |" in table, name
        assert f"| {words} |" in table, name


def test_a_real_night_is_told(wiki: Wiki) -> None:
    """A set, its proof and prune by the commands themselves, with no secret in what is told."""
    assert command(wiki, "run").code == 0
    assert command(wiki, "verify", "--opened").code == 0
    assert command(wiki, "prune", "--apply").code == 0
    said = command(wiki, "exporter", "--once", keys__identityFiles=[], keys__signingKeyFile=None)
    assert said.code == 0, said.err
    found = values(said.out)
    assert found[("sets", "site")] == 1
    assert found[("missing_objects", "site")] == 0
    assert found[("part_bytes", "site", "database")] > 1000
    assert found[("part_bytes", "site", "files")] > 1000
    assert time.time() - found[("prune_timestamp_seconds", "site")] < 60
    assert found[("prune_dropped_sets", "site")] == 0
    assert found[("prune_kept_sets", "site")] == 1
    for kind in metrics.PROOFS:
        assert ("unproven_since_timestamp_seconds", "site", kind) not in found
    assert not [secret for secret in wiki.secrets if secret in said.out + said.err]
