"""What figures are measured on is a real site: XWiki serves it, and it is what a set holds."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backups.s3 import S3
from tests.backups.wiki import Server, attachment_path
from tests.benchmarks.bed import Bed, content_of, file_of, stored
from tests.benchmarks.content import Size
from tests.contract.containers import Host

TINY = Size("tiny", sql=2_000_000, files=1_000_000, count=40, runs=1, days=1)


@pytest.fixture
def bed(host: Host, server: Server, s3: S3, tmp_path: Path) -> Iterator[Bed]:
    """A bed on the servers of all tests of backups."""
    made = Bed(TINY, tmp_path, lambda _line: None)
    made.__dict__.update(host=host, server=server, s3=s3)
    yield made
    made.close()
    site = made.site.wiki
    server.sql(f"DROP DATABASE IF EXISTS {site.schema}; DROP USER {site.user}, {site.schema}")


def test_a_bench_site_is_served_backed_up_and_brought_back(bed: Bed) -> None:
    site = bed.site
    made = site.set.manifest
    schema = site.wiki.schema
    assert made.attachments == {
        "rows": TINY.count, "bytes": content_of(bed.tree), "elsewhere": 0, "misses": 0,
    }  # fmt: skip
    assert content_of(bed.tree) == pytest.approx(TINY.files, rel=0.1)
    assert made.database.plain_bytes == pytest.approx(TINY.sql, rel=0.3)
    # Most rows are short ones; a few histories are those of pages that XWiki made itself.
    histories = made.tables[f"{schema}.xwikircs"]
    assert made.tables[f"{schema}.xwikiproperties"] > 9 * histories > 0
    # Compresses like prose, not like zeros and not like noise; files have both kinds.
    assert 2 < made.database.plain_bytes / made.database.stored_bytes < 5
    assert stored(bed.s3, schema) >= made.bytes > 0.5 * content_of(bed.tree)
    tree = site.wiki.tree()
    assert len(tree) > TINY.count
    site.wiki.destroy()
    bed.backup(site.wiki, "restore", account="root")
    # But for the folder that XWiki makes anew.
    assert site.wiki.tree() == {path: facts for path, facts in tree.items() if path != "tmp"}
    assert site.start(site.wiki.root) > 0
    # It looks at bytes: with another content there is no figure.
    first = bed.tree / attachment_path(*file_of(0))
    first.write_bytes(first.read_bytes()[:-1] + b"?")
    with pytest.raises(AssertionError):
        site.start(site.wiki.root)
