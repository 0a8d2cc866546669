"""A second S3 server of other people: nothing of the engine is made for the first one alone."""

import os
import time
from collections.abc import Callable

import pyrage
import pytest

from tests.backups.s3 import S3
from tests.backups.test_sets import later, run, silent
from tests.backups.wiki import Wiki, command
from xwiki_stack.backup import lock, manifest, restore, retention
from xwiki_stack.backup.store import Store

KEY = pyrage.x25519.Identity.generate()


@pytest.fixture
def there(make: Callable[..., Wiki], second: S3) -> Wiki:
    """A wiki whose sets lie on the second server."""
    wiki = make(s3=second)
    wiki.create()
    wiki.fill()
    return wiki


@pytest.mark.fault(8)
@pytest.mark.parametrize("checksums", ["when_required", "when_supported"])
def test_a_wiki_comes_back_from_it_byte_for_byte(there: Wiki, checksums: str) -> None:
    there.write("store/large", os.urandom(20 * 2**20))
    there.changes = {"store__checksums": checksums, "limits__packMiB": 48}
    rows, tree = there.rows(), there.tree()
    assert command(there, "run").code == 0
    later()
    assert command(there, "run").code == 0
    assert command(there, "verify", "--opened", "--all").code == 0
    assert command(there, "status").code == 0
    there.destroy()
    restore.restore(there.loaded(account="root"), restore.Wish(), silent)
    assert (there.rows(), there.tree()) == (rows, tree)


def test_its_lock_holds_and_its_sets_can_be_pruned(there: Wiki) -> None:
    with lock.hold(Store(there.loaded()), manifest.SITE, minutes=30):
        assert command(there, "run").code == 75
    first = run(there).manifest
    later()
    run(there, limits__generationSets=1)
    assert command(there, "verify", "--opened", "--all").code == 0
    for key in there.keys(""):
        os.utime(there.objects / key, (time.time() - 49 * 3600,) * 2)
    rules = {"opened": 1, "last": 1, "daily": 0, "weekly": 0, "monthly": 0}
    assert retention.prune(there.loaded(retention=rules), silent, apply=True).plan.drop == (
        first.id,
    )
    assert not [key for key in there.keys("") if first.id in key]
