"""From one LTS line of MySQL to the next: the chart's own start on a data directory of the old one.

No package registry has an older line, so this runs where a container registry answers, or on the
image that `MYSQL_OLD_IMAGE` names. Without one it is skipped, and proves nothing.
"""

import os
import time

import pytest

from tests.contract.conftest import open_folder
from tests.contract.containers import Host
from tests.contract.test_mysql_start import ODD, PASSWORDS, Pod, ready, sql
from xwiki_stack import intent
from xwiki_stack.cluster import registry

pytestmark = pytest.mark.contract

LINE, NEXT = sorted(intent.MYSQL_LINES, key=lambda line: [int(n) for n in line.split(".")])[-2:]

STOP = ("stop", "--time", "300")
"""As long as the chart lets the server write everything down."""


@pytest.fixture(scope="module")
def old_image(host: Host) -> str:
    """The official image of the older line."""
    chosen = os.environ.get("MYSQL_OLD_IMAGE")
    if not chosen and registry.choose() is registry.Bed.OFFLINE:
        pytest.skip(
            f"UNPROVEN: no container registry answers here, and MySQL {LINE} is nowhere else;"
            " hosted CI has one"
        )
    reference = chosen or f"docker.io/library/mysql:{intent.MYSQL_LINES[LINE]}"
    host.obtain(reference)
    return reference


def test_the_next_line_takes_the_data_and_the_old_one_never_again(
    host: Host, old_image: str, mysql_image: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pod = Pod(host, old_image, open_folder(tmp_path_factory, "mysql"))
    old = pod.start("mysql-old")
    ready(old)
    words = "it's ),( é 𝄞"
    sql(
        old, "xwiki", ODD,
        "CREATE TABLE xwiki.kept (id INT PRIMARY KEY, words LONGTEXT, raw LONGBLOB);"
        f"INSERT INTO xwiki.kept VALUES (1, '{words.replace(chr(39), chr(39) * 2)}', 0x00FF1A);"
        "CREATE VIEW xwiki.seen AS SELECT id FROM xwiki.kept;",
    )  # fmt: skip
    before = sql(old, "xwiki", ODD, "SELECT VERSION(); CHECKSUM TABLE xwiki.kept").splitlines()
    old.do(*STOP)

    pod.image = mysql_image
    new = pod.start("mysql-new")
    ready(new)
    after = sql(new, "xwiki", ODD, "SELECT VERSION(); CHECKSUM TABLE xwiki.kept").splitlines()
    assert after[1] == before[1]
    assert after[0].startswith(f"{NEXT}."), f"from {before[0]} to {after[0]}"
    rows = sql(
        new, "xwiki", ODD, "SELECT words, HEX(raw) FROM xwiki.kept JOIN xwiki.seen USING (id)"
    )
    assert rows == f"{words}\t00FF1A\n"
    # The other accounts are let in as well.
    sql(new, "monitor", PASSWORDS["monitor"], "SELECT 1")
    assert "kept" in sql(new, "backup", PASSWORDS["backup"], "SHOW TABLES IN xwiki")
    new.do(*STOP)

    pod.image = old_image
    back = pod.start("mysql-back")
    deadline = time.monotonic() + 60
    while back.state()["Running"]:
        assert time.monotonic() < deadline, f"{before[0]} runs on data of {after[0]}"
        time.sleep(0.5)
    assert "downgrade" in back.logs().lower()
