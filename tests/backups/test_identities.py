"""Identities at the store: the documented policy lets each verb do its work, and nothing more."""

import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.backups.pretender import pretending
from tests.backups.s3 import documented
from tests.backups.test_sets import later
from tests.backups.test_xar import PAGES, answers
from tests.backups.wiki import Wiki, command
from tests.backups.xars import xar
from xwiki_stack.cluster.objectstore import BUCKET, Identity
from xwiki_stack.desk import HOLDERS


@dataclass
class Held:
    """A wiki on a server whose bucket has the documented policy."""

    wiki: Wiki

    @cached_property
    def who(self) -> dict[str, Identity]:
        """Identities by their holder."""
        return {name: self.wiki.s3.identity() for name in HOLDERS}

    def allow(self, *without: tuple[str, str]) -> None:
        """Set the policy. without: (identity, action) that it does not allow."""
        policy = documented(self.wiki.schema, self.who)
        for name, action in without:
            for item in policy["Statement"]:
                if action in item["Action"]:
                    item["Principal"]["AWS"] = [
                        access for access in item["Principal"]["AWS"]
                        if access != self.who[name].access
                    ]  # fmt: skip
        policy["Statement"] = [item for item in policy["Statement"] if item["Principal"]["AWS"]]
        self.wiki.s3.allow(policy)

    def command(self, name: str, *words: str, **changes: Any) -> tuple[int, str]:
        """What the command ends with and says when this identity calls it."""
        own: dict[str, Any] = self.wiki.held_by(self.who[name])
        result = command(self.wiki, *words, **own, **changes)
        said = result.out + result.err
        assert not [secret for secret in self.wiki.secrets if secret in said]
        return result.code, said


@pytest.fixture
def held(wiki: Wiki) -> Iterator[Held]:
    made = Held(wiki)
    made.allow()
    yield made
    wiki.s3.client().delete_bucket_policy(Bucket=BUCKET)


def test_each_verb_works_with_its_identity(held: Held) -> None:
    wiki = held.wiki
    wiki.write("store/large", os.urandom(12 * 2**20))
    rows, tree = wiki.rows(), wiki.tree()
    retention = {"opened": 1, "last": 1, "daily": 0, "weekly": 0, "monthly": 0}
    for _ in range(2):
        code, said = held.command("writer", "run", limits__generationSets=1, limits__packMiB=48)
        assert code == 0, said
        later()
    for name, words in (
        ("verifier", ["verify", "--opened", "--all"]),
        ("drill", ["verify", "--opened"]),
        ("verifier", ["status"]),
        ("verifier", ["list"]),
    ):
        code, said = held.command(name, *words)
        assert code == 0, said
    for key in wiki.keys(""):
        os.utime(wiki.objects / key, (time.time() - 49 * 3600,) * 2)
    code, said = held.command("prune", "prune", "--apply", retention=retention)
    assert code == 0, said
    assert "1 sets went, 1 stay" in said
    wiki.destroy()
    code, said = held.command("recovery", "restore", account="root")
    assert code == 0, said
    assert (wiki.rows(), wiki.tree()) == (rows, tree)


def test_exports_the_kit_and_the_exporter_work_with_their_identities(held: Held) -> None:
    wiki = held.wiki
    password = str(wiki.folder / "keys" / "root")
    with pretending(answers(xar(PAGES))) as wanted:
        web = {"url": wanted.url, "passwordFile": password}
        code, said = held.command("writer", "run", "xar", web=web)
    assert code == 0, said
    assert held.command("writer", "run")[0] == 0
    for name, words, expected in (
        ("verifier", ["verify", "--kind", "xar"], "xar  intact"),
        ("drill", ["verify", "--opened", "--kind", "xar"], "xar  opened"),
        ("verifier", ["verify", "--no-record", "--opened"], "site  opened"),
        ("recovery", ["kit", "--quick"], "opens the newest set today"),
        ("recovery", ["list"], " xar "),
    ):
        code, said = held.command(name, *words)
        assert (code, expected in said) == (0, True), said
    # As its own pod has it: no key but public ones.
    bare: dict[str, Any] = {"database": None, "files": None}
    bare |= {f"keys__{key}": None for key in ("indexIdentityFile", "identityFiles",
                                             "signingKeyFile", "recipients")}  # fmt: skip
    code, said = held.command("exporter", "exporter", "--once", **bare)
    assert code == 0, said
    for kind in ("site", "xar"):
        label = f'{{environment="staging",kind="{kind}"}}'
        assert f"xwiki_stack_backup_sets{label} 1.0" in said
    assert re.search(r"^xwiki_stack_backup_up\{.*\} 1\.0$", said, re.M)
    held.allow(("exporter", "s3:GetObject"))
    code, said = held.command("exporter", "exporter", "--once", **bare)
    assert code == 10
    assert "get object was refused: AccessDenied" in said


def test_no_identity_may_do_more(held: Held) -> None:
    wiki = held.wiki
    assert held.command("writer", "run")[0] == 0
    name = wiki.sets()[0]
    other, own = "elsewhere/sets/x", f"{wiki.schema}/"
    wiki.s3.client().put_object(Bucket=BUCKET, Key=other, Body=b"another environment's")
    database, pack = f"{own}sets/site/{name}/db.sql.zst.age", own + wiki.keys("packs/")[0]

    def put(key: str) -> Callable[[Any], object]:
        return lambda client: client.put_object(Bucket=BUCKET, Key=key, Body=b"x")

    def delete(key: str) -> Callable[[Any], object]:
        return lambda client: client.delete_object(Bucket=BUCKET, Key=key)

    spoil = [put(database), put(f"{own}sets/site/new/x"), put(pack)]
    destroy = [delete(database), delete(pack), delete(f"{own}locks/site.json")]
    foreign: list[Callable[[Any], object]] = [
        put(other), put("top"), delete(other),
        lambda client: client.get_object(Bucket=BUCKET, Key=other),
        lambda client: client.list_objects_v2(Bucket=BUCKET, Prefix="elsewhere/"),
        lambda client: client.list_objects_v2(Bucket=BUCKET),
        lambda client: client.put_bucket_policy(Bucket=BUCKET, Policy="{}"),
        lambda client: client.delete_bucket(Bucket=BUCKET),
    ]  # fmt: skip
    forbidden: dict[str, list[Callable[[Any], object]]] = {
        "writer": [*destroy, *foreign],
        "verifier": [*spoil, *destroy, *foreign, put(f"{own}locks/site.json")],
        "prune": [*spoil, *foreign, put(f"{own}locks/site.json"), delete(f"{own}locks/site.json")],
        "recovery": [*spoil, *destroy, *foreign, put(f"{own}evidence/{name}/x")],
        "drill": [*spoil, *destroy, *foreign, put(f"{own}locks/site.json")],
        "exporter": [
            *spoil,
            *destroy,
            *foreign,
            put(f"{own}evidence/{name}/x"),
            put(f"{own}locks/site.json"),
        ],
    }
    assert forbidden.keys() == set(HOLDERS)
    before = {key: (wiki.objects / key).read_bytes() for key in wiki.keys("")}
    for who, tries in forbidden.items():
        client = wiki.s3.client(held.who[who])
        for number, attempt in enumerate(tries):
            with pytest.raises(ClientError) as refused:
                attempt(client)
            code = refused.value.response["Error"]["Code"]
            assert code == "AccessDenied", (who, number, code)
    assert {key: (wiki.objects / key).read_bytes() for key in wiki.keys("")} == before
    # And what they may, they may: else all of this would be true of nobody.
    for who in ("verifier", "drill", "prune", "writer"):
        put(f"{own}evidence/{name}/{who}")(wiki.s3.client(held.who[who]))


@pytest.mark.fault(7)
@pytest.mark.parametrize(
    ("action", "words"),
    [
        ("s3:PutObject", "the right to put is missing (s3:PutObject)"),
        ("s3:GetObject", "the right to head is missing (s3:GetObject)"),
        ("s3:ListBucket", "the right to list is missing (s3:ListBucket)"),
    ],
)
def test_what_the_writer_lacks_is_named_before_the_dump(
    held: Held, action: str, words: str
) -> None:
    held.allow(("writer", action))
    code, said = held.command("writer", "run", database__port=9)
    assert code == 10, said
    assert words in said
    assert len(said.splitlines()) == 1
    assert held.wiki.keys("sets/") == []


@pytest.mark.fault(7)
@pytest.mark.parametrize(
    ("name", "verb", "action", "words"),
    [
        ("verifier", ["verify"], "s3:PutObject", "put object was refused: AccessDenied"),
        ("verifier", ["verify"], "s3:GetObject", "get object was refused: AccessDenied"),
        ("prune", ["prune", "--apply"], "s3:PutObject", "put object was refused: AccessDenied"),
        ("prune", ["prune", "--apply"], "s3:ListBucketMultipartUploads",
         "list multipart uploads was refused: AccessDenied"),
        ("prune", ["prune", "--apply"], "s3:DeleteObject", "needs s3:DeleteObject"),
        ("recovery", ["restore"], "s3:ListBucket", "list objects was refused: AccessDenied"),
    ],
)  # fmt: skip
def test_what_the_others_lack_is_named(
    held: Held, name: str, verb: list[str], action: str, words: str
) -> None:
    wiki = held.wiki
    assert held.command("writer", "run")[0] == 0
    assert held.command("verifier", "verify", "--opened")[0] == 0
    orphan = wiki.objects / "packs" / "0000" / f"{0:032x}"
    orphan.parent.mkdir(parents=True)
    orphan.write_bytes(b"lost")
    os.utime(orphan, (time.time() - 50 * 3600,) * 2)
    held.allow((name, action))
    code, said = held.command(name, *verb)
    assert code == 10, said
    assert words in said.splitlines()[-1]
    assert "next: " in said.splitlines()[-1]
    assert orphan.exists()
    assert len(wiki.sets()) == 1
