"""A XAR set brought into a fresh wiki that runs: everything is looked at before anything is sent.

**A wiki is fresh** as long as no page of the archive is there already, but those whose last author
is superadmin (what XWiki, the bootstrap Job and a flavor that installs itself make: all three work
as superadmin) and those that are what the archive holds, in version and text (what a restore that
broke off left). Pages that the archive does not hold are not looked at and not touched.

XWiki answers 200 to an import that could not save single pages, so each page is read again.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from xwiki_stack.backup import archive, deadline, keyring, restore, xar
from xwiki_stack.backup.archive import Page
from xwiki_stack.backup.config import Config
from xwiki_stack.backup.manifest import Found, Xar
from xwiki_stack.backup.progress import Progress
from xwiki_stack.backup.store import Store
from xwiki_stack.backup.web import NAMESPACE, Web
from xwiki_stack.backup.words import size
from xwiki_stack.errors import IncompleteError, MachineError, RefusedError

Emit = Callable[[str], None]

MACHINE = "XWiki.superadmin"
"""Author of what no person wrote: no person logs in as it, and it has no page."""


@dataclass(frozen=True)
class Outcome:
    """What was imported, in how many seconds, the whole-set proof included."""

    found: Found[Xar]
    seconds: float
    pages: int
    attachments: int


def restore_xar(config: Config, wish: restore.Wish, emit: Emit) -> Outcome:
    """Import a set into fresh wikis. Raises the StackError of what stands against it."""
    began = time.monotonic()
    store = Store(config)
    found = restore.choose(config, store, wish, Xar)
    made, identities = found.manifest, keyring.openers(config)
    web = Web(config)
    web.expect_admin()
    _expect_version(web, made)
    if made.environment != config.environment:
        emit(
            f"warning: pages of {made.environment} bring its mail server and its addresses along,"
            " and nothing rewrites them; look at Mail in the administration first"
        )
    for export in made.wikis:
        if not web.has_wiki(export.wiki):
            raise RefusedError(
                f"there is no wiki {export.wiki}",
                where=web.url,
                next="make it in XWiki first; a XAR holds pages, no wikis",
            )
    emit(f"set {made.id}: {size(made.bytes)} stored; opening all of it before anything is sent")
    with (
        deadline.within(config.limits.restore_minutes, "limits.restoreMinutes"),
        store.told(Progress("read", emit).add),
    ):
        opened = [(export, xar.open_archive(store, export, identities)) for export in made.wikis]
        emit("opened; looking whether anybody works in the wiki already")
        for export, held in opened:
            _expect_fresh(web, export.wiki, held.pages)
        for export, held in opened:
            emit(f"wiki {export.wiki}: importing {len(held.pages)} pages and translations")
            with xar.stored(store, export, identities) as blocks:
                web.load(export.wiki, blocks, history="replace")
            expect_there(web, export.wiki, held.pages)
            emit(f"wiki {export.wiki}: each of them is there, as the set holds it")
    return Outcome(
        found,
        time.monotonic() - began,
        sum(len(held.pages) for _, held in opened),
        sum(held.attachments for _, held in opened),
    )


def expect_there(web: Web, wiki: str, pages: Iterable[Page]) -> None:
    """Read every page again. Raises IncompleteError that names those that did not come."""
    lacking = [words for page in pages if (words := _lack(web, wiki, page))]
    if lacking:
        raise IncompleteError(
            f"{len(lacking)} pages did not come into wiki {wiki}: {', '.join(lacking[:5])}",
            where=web.url,
            next="see the log of XWiki at that time; run again: what came is let be",
        )


def _lack(web: Web, wiki: str, page: Page) -> str:
    """What is wrong with a page that was imported; "" where nothing is."""
    try:
        there = web.page(page.reference, wiki, page.locale)
    except MachineError as error:
        return f"{page.name} ({error.what})"
    if there is None:
        return page.name
    if page.content and _digest(there) != page.content:
        return f"{page.name} (another text)"
    if page.attachments:
        # The list may be cut where it is long.
        missing = set(page.attachments) - web.attachments(page.reference, wiki)
        for name in sorted(missing):
            if not web.has_attachment(page.reference, name, wiki):
                return f"{page.name} (attachment {name})"
    return ""


def _expect_version(web: Web, made: Xar) -> None:
    here = web.version()
    if _line(made.xwiki) > _line(here):
        raise RefusedError(
            f"the set is from XWiki {made.xwiki}, this is {here}",
            where=web.url,
            next="restore into a wiki of that version or a newer one",
        )


def _expect_fresh(web: Web, wiki: str, pages: Iterable[Page]) -> None:
    used = []
    for page in pages:
        there = web.page(page.reference, wiki, page.locale)
        if there is not None and not _spared(there, page):
            used.append(f"{page.name} by {_text(there, 'author')}")
    if used:
        raise RefusedError(
            f"wiki {wiki} is not fresh: {len(used)} pages of the set are there already and were"
            f" written by people: {', '.join(used[:5])}",
            where=web.url,
            next="restore into a fresh wiki; with --page one page comes back beside the live one",
        )


def _spared(there: Element, page: Page) -> bool:
    if _text(there, "author").rpartition(":")[2] == MACHINE:
        return True
    same = bool(page.content) and _digest(there) == page.content
    return same and _text(there, "version") == page.version


def _digest(there: Element) -> str:
    return archive.digest(_text(there, "content"))


def _text(there: Element, name: str) -> str:
    return there.findtext(f"{NAMESPACE}{name}") or ""


def _line(version: str) -> tuple[int, ...]:
    """17.10.13 is (17, 10): what follows is fixes."""
    numbers = version.split("-", maxsplit=1)[0].split(".")[:2]
    return tuple(int(number) for number in numbers if number.isdigit())
