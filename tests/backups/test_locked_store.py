"""Buckets that keep versions and lock objects; and the store's own encryption."""

import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.backups.proxy import Request, proxy
from tests.backups.s3 import S3, served
from tests.backups.test_sets import later, run, silent
from tests.backups.wiki import Wiki, command
from xwiki_stack.backup import manifest, restore
from xwiki_stack.backup.store import Store
from xwiki_stack.cluster.objectstore import BUCKET

FEW = {"opened": 1, "last": 1, "daily": 0, "weekly": 0, "monthly": 0}

Make = Callable[..., Wiki]


def filled(make: Make, server: S3) -> Wiki:
    wiki = make(s3=server)
    wiki.create()
    wiki.fill(rows=5)
    return wiki


def locking(server: S3, mode: str = "") -> None:
    """Make the bucket one with object lock. mode: of a default retention of one day."""
    client = server.client()
    (server.objects).rmdir()
    client.create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)
    if mode:
        client.put_object_lock_configuration(
            Bucket=BUCKET,
            ObjectLockConfiguration={
                "ObjectLockEnabled": "Enabled",
                "Rule": {"DefaultRetention": {"Mode": mode, "Days": 1}},  # type: ignore[typeddict-item]
            },
        )


@pytest.fixture(params=["GOVERNANCE", "COMPLIANCE"])
def locked(
    make: Make, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Wiki]:
    """A wiki on a bucket that keeps versions and locks all of them."""
    with served(S3(tmp_path_factory.mktemp("locked"), versioned=True)) as server:
        locking(server, request.param)
        yield filled(make, server)


def two_sets(wiki: Wiki) -> tuple[str, str]:
    """Ids of two sets that share nothing, both proven, old enough to go."""
    first = run(wiki).manifest.id
    later()
    second = run(wiki, limits__generationSets=1).manifest.id
    assert command(wiki, "verify", "--opened", "--all").code == 0
    for key in wiki.keys(""):
        os.utime(wiki.objects / key, (time.time() - 49 * 3600,) * 2)
    return first, second


def test_every_verb_works_where_all_is_versioned_and_locked(locked: Wiki) -> None:
    rows, tree = locked.rows(), locked.tree()
    first, second = two_sets(locked)
    client = locked.s3.client()
    database = f"{locked.schema}/sets/site/{first}/db.sql.zst.age"
    result = command(locked, "prune", "--apply", retention=FEW)
    assert result.code == 0, result.err
    # By the store's word: a mark is a file of the server as well.
    assert manifest.names(Store(locked.loaded()), manifest.SITE) == [second]
    said = client.list_object_versions(Bucket=BUCKET, Prefix=f"{locked.schema}/sets/site/{first}/")
    assert database in [item["Key"] for item in said["Versions"]], "its bytes stay as a version"
    assert database in [item["Key"] for item in said["DeleteMarkers"]]
    # Whoever wants them gone for good is refused.
    (version,) = [item["VersionId"] for item in said["Versions"] if item["Key"] == database]
    with pytest.raises(client.exceptions.ClientError, match="protected by object lock"):
        client.delete_object(Bucket=BUCKET, Key=database, VersionId=version)
    locked.destroy()
    restore.restore(locked.loaded(account="root"), restore.Wish(), silent)
    assert (locked.rows(), locked.tree()) == (rows, tree)


def test_what_is_spoiled_is_noticed_and_its_version_brings_it_back(locked: Wiki) -> None:
    run(locked)
    client, key = locked.s3.client(), f"{locked.schema}/{locked.keys('packs/')[0]}"
    (before,) = client.list_object_versions(Bucket=BUCKET, Prefix=key)["Versions"]
    client.put_object(Bucket=BUCKET, Key=key, Body=b"spoiled by a taken writer")
    assert "is not what was stored" in command(locked, "verify").err
    client.copy_object(
        Bucket=BUCKET,
        Key=key,
        CopySource={"Bucket": BUCKET, "Key": key, "VersionId": before["VersionId"]},
    )
    assert command(locked, "verify", "--opened").code == 0


def test_an_object_that_is_locked_without_versions_stays_until_a_later_prune(
    make: Make, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with served(S3(tmp_path_factory.mktemp("held"))) as server:
        locking(server)
        wiki = filled(make, server)
        first, second = two_sets(wiki)
        key = f"sets/site/{first}/db.sql.zst.age"
        until = datetime.now(UTC) + timedelta(seconds=5)
        server.client().put_object_retention(
            Bucket=BUCKET,
            Key=f"{wiki.schema}/{key}",
            Retention={"Mode": "COMPLIANCE", "RetainUntilDate": until},
        )
        result = command(wiki, "prune", "--apply", retention=FEW)
        assert result.code == 10
        (line,) = result.err.splitlines()
        assert f"{key}: is locked until {until:%Y-%m-%d %H:%M} UTC: AccessDenied" in line
        assert "1 of " in line
        assert line.endswith("next: a later prune takes them")
        assert wiki.sets() == [second], "the rest of it went"
        assert [name for name in wiki.keys("") if first in name] == [key]
        assert command(wiki, "verify", "--opened").code == 0
        time.sleep(max(0.0, (until - datetime.now(UTC)).total_seconds()) + 0.5)
        os.utime(wiki.objects / key, (time.time() - 49 * 3600,) * 2)
        result = command(wiki, "prune", "--apply", retention=FEW)
        assert result.code == 0, result.err
        assert not [name for name in wiki.keys("") if first in name]


def test_a_bucket_that_locks_without_versions_is_refused_before_the_dump(
    make: Make, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with served(S3(tmp_path_factory.mktemp("stiff"))) as server:
        locking(server, "GOVERNANCE")
        wiki = filled(make, server)
        result = command(wiki, "run", database__port=9)
        assert result.code == 10
        (line,) = result.err.splitlines()
        assert "protected by object lock" in line
        assert "next: turn on the bucket's versions" in line


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {}),
        ({"store__encryption": "AES256"}, {"x-amz-server-side-encryption": "AES256"}),
        ({"store__encryption": "aws:kms"}, {"x-amz-server-side-encryption": "aws:kms"}),
        (
            {"store__encryption": "aws:kms", "store__kmsKey": "arn:key/7"},
            {
                "x-amz-server-side-encryption": "aws:kms",
                "x-amz-server-side-encryption-aws-kms-key-id": "arn:key/7",
            },
        ),
    ],
)
def test_the_stores_encryption_is_asked_for_with_every_object(
    wiki: Wiki, changes: dict[str, str], expected: dict[str, str]
) -> None:
    wiki.write("store/large", os.urandom(12 * 2**20))
    asked: list[Request] = []
    with proxy(wiki.s3.port, asked.append) as between:
        run(wiki, store__endpoint=between.endpoint, limits__packMiB=48, **changes)
    begun = [request for request in asked if request.kind in ("put", "begin")]
    assert {request.kind for request in begun} == {"put", "begin"}
    for request in begun:
        said = {k: v for k, v in request.headers.items() if "encryption" in k}
        assert said == expected, request.path
