"""A running wiki to export from and to import into: XWiki's stand-in on the tests' MySQL."""

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.backups.s3 import S3
from tests.backups.wiki import Server
from tests.backups.wiki import Wiki as Kept
from tests.contract.conftest import QUICK
from tests.contract.containers import Host
from tests.contract.wiki import SUPERADMIN, Schema, Wiki


@dataclass
class Live:
    """`wiki`: as HTTP serves it. `kept`: keys, configuration and bucket of its backups."""

    wiki: Wiki
    kept: Kept

    def stop(self) -> None:
        """End it and drop its schema."""
        self.wiki.container.remove()
        name = self.kept.schema
        drop = f"DROP DATABASE IF EXISTS `{name}`; DROP USER IF EXISTS {self.kept.user}, {name}"
        self.kept.server.sql(drop)

    def user(self, name: str, password: str) -> dict[str, Any]:
        """Changes of the configuration for another account of the wiki."""
        path = self.kept.folder / "keys" / f"of-{name}"
        path.write_text(password)
        return {"web__user": name, "web__passwordFile": str(path)}


def begin(
    host: Host,
    image: str,
    *,
    server: Server,
    s3: S3,
    folder: Path,
    env: Mapping[str, str] | None = None,
) -> Live:
    """Start a wiki; it is ready when this ends."""
    name = f"live_{secrets.token_hex(4)}"
    schema = Schema(server.container, server.password, name, secrets.token_hex(12))
    kept = Kept(server, s3, folder / name, name)
    server.sql(
        f"CREATE DATABASE {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;"
        f"CREATE USER {name} IDENTIFIED BY '{schema.password}';"
        f"GRANT ALL ON {name}.* TO {name}; GRANT PROCESS ON *.* TO {name};"
        f"CREATE USER {kept.user} IDENTIFIED BY '{kept.passwords['backup']}';"
        f"GRANT SELECT ON {name}.* TO {kept.user};"
    )
    settings = {
        **schema.environment,
        "DB_HOST": "backups",
        "JAVA_OPTS": QUICK,
        "XCONF_xwikicfg_xwiki_superadminpassword": SUPERADMIN[1],
        "XCONF_xwikiproperties_distribution_automaticStartOnMainWiki": "false",
    }
    began = time.monotonic()
    container = host.start(
        name.replace("_", "-"),
        image,
        env={**settings, **(env or {})},
        options=["--publish", "127.0.0.1::8080"],
    )
    wiki = Wiki(container, schema, began, container.address())
    made = Live(wiki, kept)
    password = kept.folder / "keys" / "superadmin"
    password.write_text(SUPERADMIN[1] + "\n")
    kept.changes["web"] = {"url": wiki.url, "passwordFile": str(password)}
    assert wiki.wait() == 200, container.logs()[-3000:]
    return made
