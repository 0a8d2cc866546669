"""The canary: a page and an attachment whose content is known, written before each set is made.

A drill that finds both, and finds them fresh, has seen a whole wiki: the page came by the database,
the bytes by the files, and neither is older than the set says.

Two attachments take turns. The page names the newer one and comes last, so a set that is made
meanwhile has a page whose attachment is not written at that moment.
"""

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

from xwiki_stack.backup.config import Config
from xwiki_stack.backup.web import NAMESPACE, Web
from xwiki_stack.errors import DamagedError, MachineError

PAGE = "XWikiStack.Canary"

TITLE = "Canary of the backups"

ATTACHMENTS = ("canary-a.bin", "canary-b.bin")

SIZE = 4096
"""Bytes of an attachment: XWiki keeps every version of it, twice a day."""

_WORDS = "Written before each backup and looked for in each restore drill. Do not edit it."
_LINE = re.compile(r"^(at|token|attachment|sha256): (\S+)\s*$", re.MULTILINE)
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class Canary:
    """What a canary's page says. at: UTC by the clock of who wrote it. sha256: of the bytes."""

    at: str
    token: str
    attachment: str
    sha256: str

    @property
    def time(self) -> datetime:
        """When it was written."""
        return datetime.strptime(self.at, _TIME).replace(tzinfo=UTC)

    @property
    def text(self) -> str:
        """The page's content."""
        lines = [f"at: {self.at}", f"token: {self.token}", f"attachment: {self.attachment}",
                 f"sha256: {self.sha256}"]  # fmt: skip
        return "\n".join([_WORDS, "", *lines])


def write(config: Config) -> Canary:
    """Put a new canary into the running wiki, and read it back. Raises StackError."""
    web = Web(config)
    web.awaited()
    before = _there(web)
    content = secrets.token_bytes(SIZE)
    turn = ATTACHMENTS[before is not None and before.attachment == ATTACHMENTS[0]]
    made = Canary(
        f"{datetime.now(UTC):{_TIME}}",
        secrets.token_hex(16),
        turn,
        hashlib.sha256(content).hexdigest(),
    )
    if before is None:
        # What is attached to wants a page; this one says nothing yet that could be missed.
        web.put_page(PAGE, TITLE, _WORDS)
    web.put_attachment(PAGE, turn, content)
    web.put_page(PAGE, TITLE, made.text)
    if read(web) != made:
        raise MachineError(
            f"{PAGE} does not say what was just written into it",
            where=web.url,
            next="see the log of XWiki, and whether anything else edits that page",
        )
    if (served := digest(web, made)) != made.sha256:
        raise MachineError(
            f"{PAGE} / {turn} was written with SHA-256 {made.sha256} and is served with {served}",
            where=web.url,
            next="see the log of XWiki and its volume",
        )
    return made


def read(web: Web) -> Canary:
    """The canary of a wiki. Raises DamagedError where there is none."""
    page = web.page(PAGE)
    if page is None:
        raise DamagedError(f"there is no page {PAGE}")
    said = dict(_LINE.findall(page.findtext(f"{NAMESPACE}content") or ""))
    try:
        found = Canary(**said)
        found.time  # noqa: B018 - raises for what is no time
    except (TypeError, ValueError) as error:
        raise DamagedError(f"{PAGE} is no canary: somebody edited it, or it was cut") from error
    return found


def digest(web: Web, canary: Canary) -> str:
    """The SHA-256 of a canary's attachment as the wiki serves it; "nothing" for none."""
    answer = web.attachment(PAGE, canary.attachment)
    if answer.status_code != 200:
        return "nothing"
    hashed = hashlib.sha256()
    for block in web.blocks(answer):
        hashed.update(block)
    return hashed.hexdigest()


def _there(web: Web) -> Canary | None:
    """The canary before this one. What is none is written over."""
    try:
        return read(web)
    except DamagedError:
        return None
