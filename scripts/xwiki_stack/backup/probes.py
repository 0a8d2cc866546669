"""What a wiki that came back must show: questions to its database, its files and its pages.

Each probe gives in words what it saw, and raises a StackError with what was wrong.
"""

import html
import os
import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

from xwiki_stack.backup import canary, mysql
from xwiki_stack.backup.canary import Canary
from xwiki_stack.backup.config import Database
from xwiki_stack.backup.manifest import Manifest, Site
from xwiki_stack.backup.web import GUEST, NAMESPACE, Web
from xwiki_stack.errors import DamagedError

HOME, HOME_PATH = "Main.WebHome", "/bin/view/Main/"

SKEW = timedelta(minutes=10)
"""How much later than its set a canary may be: two machines wrote the times."""

_TITLE = re.compile(r"<title>(.*?)</title>", re.DOTALL | re.IGNORECASE)


def tables(server: mysql.Server, made: Site) -> str:
    """CHECK TABLE finds every table of the set whole."""
    if broken := server.broken(sorted(made.tables)):
        name, words = next(iter(broken.items()))
        raise DamagedError(f"{len(broken)} tables are not whole: {name}: {words}")
    return f"{len(made.tables)} tables are whole"


def attached(server: mysql.Server, made: Site, root: Path) -> str:
    """Every attachment that the database has lies among the files, in its size."""
    found = server.attachments()
    if misses := found.misses(lambda folder: _sizes(root / folder), lambda link: _link(root, link)):
        few = " | ".join(miss.words for miss in misses[:5])
        raise DamagedError(f"{len(misses)} of {len(found.rows)} attachments have no file: {few}")
    wanted = made.attachments["rows"]
    if len(found.rows) != wanted:
        raise DamagedError(f"the database has {len(found.rows)} attachments, the set {wanted}")
    return f"{len(found.rows)} attachments have their file"


def version(web: Web) -> str:
    """REST answers with XWiki's version."""
    if found := web.version():
        return found
    raise DamagedError("REST answers without a version")


def first_page(web: Web) -> str:
    """The first page is served to readers, under its own title."""
    page = web.page(HOME)
    if page is None:
        raise DamagedError(f"there is no page {HOME}")
    found = _TITLE.search(web.expect("GET", HOME_PATH).text)
    served = html.unescape(found[1]).strip() if found else ""
    title = (page.findtext(f"{NAMESPACE}title") or "").strip()
    if not served or title not in served:
        raise DamagedError(f"{HOME_PATH} has the title {served!r}, the page is called {title!r}")
    return f"{HOME_PATH} is {served!r}"


def login(web: Web) -> str:
    """The right password lets in, a wrong one does not."""
    if (right := web.served()).endswith(GUEST) or not right:
        raise DamagedError("the right password does not let in")
    if not (wrong := web.served(wrong=True)).endswith(GUEST):
        raise DamagedError(f"a wrong password lets in, as {wrong}")
    return f"{right} by the right password, nobody by a wrong one"


def canary_page(web: Web, made: Manifest, rpo: timedelta, since: datetime | None) -> Canary | None:
    """The canary's page, no older than the set allows; None for a set from before canaries.

    rpo: how old it may be at the set's moment. since: when canaries began, None for always.
    """
    if since and made.time < since and web.page(canary.PAGE) is None:
        return None
    found = canary.read(web)
    if not made.time - rpo <= found.time <= made.time + SKEW:
        raise DamagedError(
            f"{canary.PAGE} is from {found.at}, the set from {made.snapshot}: at most"
            f" {rpo / timedelta(hours=1):g} h may lie between",
            next="see whether CronJob canary runs, and what the dump was made of",
        )
    return found


def canary_attachment(web: Web, found: Canary) -> str:
    """The canary's attachment is served with the bytes that its page tells of."""
    if (served := canary.digest(web, found)) != found.sha256:
        raise DamagedError(
            f"{canary.PAGE} / {found.attachment} is served with SHA-256 {served}, its page says"
            f" {found.sha256}"
        )
    return f"{found.attachment} has the bytes that its page tells of"


def wikis(web: Web, database: Database, made: Site) -> str:
    """The wikis that are served are those whose schemas the set has."""
    wanted, served = {database.wiki_of(name) for name in made.schemas}, web.wikis()
    if wanted != served:
        raise DamagedError(f"{_listed(served)} are served, the set has {_listed(wanted)}")
    return f"{_listed(served)} served, as the set has them"


def _sizes(folder: Path) -> dict[str, int]:
    try:
        with os.scandir(folder) as listed:
            return {item.name: item.stat().st_size for item in listed if item.is_file()}
    except FileNotFoundError:
        return {}


def _link(root: Path, path: str) -> str:
    try:
        return (root / path).read_bytes()[:1024].decode(errors="replace").strip()
    except OSError:
        return ""


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
