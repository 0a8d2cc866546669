"""A real MySQL server for tests: a container of its image, and its own clients outside of it."""

import secrets
import time
from pathlib import Path

from tests.backups.wiki import Server, take_programs
from tests.contract.containers import Host
from xwiki_stack import proc

ALWAYS = (
    "--character-set-server=utf8mb4",
    "--collation-server=utf8mb4_bin",
    "--gtid-mode=ON",
    "--enforce-gtid-consistency=ON",
    "--log-bin=binlog",
    "--server-id=1",
    "--skip-mysqlx",
    "--secure-file-priv=NULL",
)
"""What the chart's server has too, as far as backups can tell."""

QUICK = (
    "--skip-performance-schema",
    "--innodb-flush-log-at-trx-commit=2",
    "--sync-binlog=0",
)
"""Nothing of a test need outlive a power cut."""

NAME = "backups"
"""By which other containers of the network reach the first one."""

START_SECONDS = 180


def start(
    host: Host, image: str, folder: Path, *words: str, name: str = NAME, near: bool = False
) -> Server:
    """Start a server with further words of mysqld; its client programs are put into the folder.

    name: by which other containers of the network reach it.
    near: reached at the container's own address, past the engine's proxy, which costs processor
    time; only on Linux. Otherwise on a port of 127.0.0.1.
    """
    password = secrets.token_hex(12)
    container = host.start(
        name,
        image,
        *ALWAYS,
        *words,
        env={"MYSQL_ROOT_PASSWORD": password},
        options=["--tmpfs", "/var/run/mysqld:mode=1777", "--publish", "127.0.0.1::3306"],
    )
    asked = proc.run(container.engine.docker("port", container.name, "3306/tcp")).out
    port, address = int(asked.split()[0].rpartition(":")[2]), "127.0.0.1"
    if near:
        form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        asked = proc.run(container.engine.docker("inspect", "--format", form, container.name)).out
        port, address = 3306, asked.strip()
    made = Server(container, password, port, take_programs(host, image, folder), address)
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            # Over TCP, where the entrypoint's first server does not listen.
            made.sql("SELECT 1")
        except proc.CommandFailed:
            late = time.monotonic() > deadline or not container.state()["Running"]
            assert not late, container.logs()[-3000:]
            time.sleep(0.3)
        else:
            return made
