"""The recovery kit: one page that brings the wiki back when only the bucket and the keys are left.

It says where everything is and proves, before it is believed, that the key at hand opens the newest
set. It holds no secret. The key itself is drawn as a QR code only where that is asked for.
"""

import hashlib
import html
import io
import os
import re
import time
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import segno
import yaml

from xwiki_stack import intent, proc, repo
from xwiki_stack.backup import keyring, manifest, signature, stream, verify
from xwiki_stack.backup.config import Config, secret
from xwiki_stack.backup.manifest import Found, Site
from xwiki_stack.backup.store import Absent, Store
from xwiki_stack.backup.words import rate, size, stamp
from xwiki_stack.cluster import pins
from xwiki_stack.errors import DamagedError, IntentError, MachineError, RefusedError, StackError

RUNBOOK = repo.ROOT / "docs" / "runbooks" / "lost-node.md"
"""Its numbered headings are the steps of the sheet."""

START = 64 * 1024
"""Plain bytes of the dump that a quick look reads."""

DRAWINGS = (".svg", ".png", ".txt")

UNKNOWN = "____________________"
"""To be filled in with a pen."""

Rows = list[tuple[str, str]]


@dataclass(frozen=True)
class Opening:
    """What came of opening the newest set with one key: its file, fingerprint, error or words."""

    file: Path
    fingerprint: str
    error: DamagedError | None
    words: str


@dataclass(frozen=True)
class Kit:
    """The sheet: a title, sections of rows, the steps; `problem` is why it is not to be trusted."""

    title: str
    sections: dict[str, Rows]
    steps: list[str]
    problem: StackError | None

    @property
    def text(self) -> str:
        """For a terminal or a printer."""
        lines = [self.title, "=" * len(self.title)]
        for name, rows in self.sections.items():
            width = max((len(label) for label, _ in rows), default=0)
            lines += ["", name.upper()]
            lines += [f"  {label.ljust(width)}  {value}" for label, value in rows]
        lines += ["", "STEPS (docs/runbooks/lost-node.md has the commands)"]
        lines += [f"  {number}. {step}" for number, step in enumerate(self.steps, 1)]
        return "\n".join(lines)

    @property
    def html(self) -> str:
        """One page without anything from elsewhere."""

        def cell(text: str) -> str:
            return html.escape(text)

        parts = []
        for name, rows in self.sections.items():
            inner = "".join(f"<tr><th>{cell(a)}</th><td>{cell(b)}</td></tr>" for a, b in rows)
            parts.append(f"<h2>{cell(name)}</h2><table>{inner}</table>")
        steps = "".join(f"<li>{cell(step)}</li>" for step in self.steps)
        parts.append(f"<h2>Steps (docs/runbooks/lost-node.md)</h2><ol>{steps}</ol>")
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f"<title>{cell(self.title)}</title><style>{_STYLE}</style></head>\n"
            f"<body><h1>{cell(self.title)}</h1>\n" + "\n".join(parts) + "\n</body></html>\n"
        )


_STYLE = (
    "@page{size:A4;margin:15mm}body{font:10pt sans-serif;max-width:180mm}h1{font-size:15pt}"
    "h2{font-size:11pt;margin:4mm 0 1mm}th{text-align:left;vertical-align:top;padding-right:5mm;"
    "white-space:nowrap;font-weight:normal}td{font-family:monospace;word-break:break-all}"
)


def kit(config: Config, *, quick: bool) -> Kit:
    """Gather the sheet and open the newest set with each key that is here.

    quick: its index and the beginning of its dump, instead of all of it. Raises StoreError,
    IntentError; that a key does not open the set stands in the sheet and is its `problem`.
    """
    store, trusted = Store(config), config.need_trusted()
    now = store.hasty().now()
    newest = manifest.listing(store, trusted, config.environment, Site).newest
    openings = _openings(config, store, newest, quick=quick) if newest else []
    failed = [item.error for item in openings if item.error]
    return Kit(
        title=f"Recovery kit of {config.environment}, {stamp(now)}",
        sections={
            "what": _what(config, newest),
            "sets": _sets(config, newest, now),
            "keys": _keys(config, openings),
        },
        steps=_steps(),
        problem=failed[0]
        if failed
        else None
        if newest
        else IntentError("there is no set, so this kit brings nothing back",
                         next="`xwiki-stack backup run`, then print it again"),
    )  # fmt: skip


def write(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Write a file that is not there yet. Raises RefusedError, MachineError."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    except FileExistsError as error:
        raise RefusedError(f"{path} exists", next="name a file that does not") from error
    except OSError as error:
        raise MachineError(f"{path} cannot be written: {error.strerror}") from error
    with os.fdopen(handle, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)


def drawn(config: Config, kind: str) -> bytes:
    """The QR code of the one key that is here. kind: one of DRAWINGS. Raises IntentError."""
    paths = config.keys.identity_files
    if len(paths) != 1:
        raise IntentError(
            f"{len(paths)} keys are named", where=f"{config.path}: keys.identityFiles",
            allowed="one, to be drawn", next="name the recovery key alone",
        )  # fmt: skip
    if kind not in DRAWINGS:
        raise IntentError(f"{kind!r} is no kind of drawing", where="--qr",
                          allowed=f"- or a file that ends with {', '.join(DRAWINGS)}")  # fmt: skip
    text = secret(paths[0], config, "keys.identityFiles")
    identity = str(stream.identity(text, str(paths[0])))
    code = segno.make(identity, error="m", micro=False)
    if kind == ".txt":
        shown = io.StringIO()
        code.terminal(out=shown, compact=True)
        return shown.getvalue().encode()
    saved = io.BytesIO()
    code.save(saved, kind=kind[1:], scale=8)
    return saved.getvalue()


def _openings(config: Config, store: Store, newest: Found[Site], *, quick: bool) -> list[Opening]:
    found = []
    for path, identity in zip(config.keys.identity_files, keyring.openers(config), strict=True):
        began = time.monotonic()
        error, words = None, ""
        try:
            if quick:
                _look(store, newest.manifest, identity)
                words = "its index and the beginning of its dump"
            else:
                plain = verify.opened(store, newest.manifest, [identity])
                words = f"all of it, {size(plain)} at {rate(plain, time.monotonic() - began)}"
        except DamagedError as damaged:
            error = damaged
        public = str(identity.to_public())
        found.append(Opening(path, _fingerprint(public.encode()), error, words))
    return found


def _look(store: Store, made: Site, identity: Any) -> None:
    """Open the index, and the dump as far as it takes to see that it is one."""
    verify.index_of(store, made, [identity])
    head = bytearray()

    def take(plain: bytes) -> None:
        head.extend(plain)
        if len(head) >= START:
            raise _Enough

    try:
        stream.read(store, made.database.key, [identity], take)
    except _Enough:
        pass
    except Absent as error:
        raise DamagedError("is missing", where=store.key(made.database.key)) from error
    if b"-- Server version" not in head:
        raise DamagedError("is no dump", where=store.key(made.database.key))


class _Enough(Exception):  # noqa: N818 - no error: the beginning was read
    """The beginning is known."""


def _what(config: Config, newest: Found[Site] | None) -> Rows:
    chart = yaml.safe_load((repo.ROOT / "Chart.yaml").read_text())
    tools = pins.tools()
    url, commit = _git("remote", "get-url", "origin"), _git("rev-parse", "HEAD")
    # Whoever cloned with a token in the address must not find it printed.
    rows = [("Git", re.sub(r"//[^/@]*@", "//", url) or UNKNOWN), ("commit", commit or UNKNOWN)]
    try:
        environment = intent.load_environment(config.environment)
        rows += [
            ("cluster", environment.cluster),
            ("namespace", environment.namespace),
            ("host", environment.host),
            ("key owner", str(intent.at(environment.backups, "target", "keyOwner") or UNKNOWN)),
        ]
    except IntentError:
        rows += [("cluster", UNKNOWN), ("namespace", UNKNOWN)]
    versions = f"xwiki-stack {version('xwiki-stack')}, XWiki {chart['appVersion']}"
    if newest:
        versions += f", MySQL {newest.manifest.server}"
    rows.append(("versions", versions))
    rows.append(("tools", f"kubectl {tools['kubectl'].version}, helm {tools['helm'].version}"))
    return rows


def _sets(config: Config, newest: Found[Site] | None, now: datetime) -> Rows:
    bucket = config.store
    rows = [
        ("S3 endpoint", bucket.endpoint or "AWS"),
        ("region", bucket.region),
        ("bucket", bucket.bucket),
        ("prefix", bucket.prefix or "(none)"),
        ("path style", "yes" if bucket.path_style else "no"),
    ]
    if bucket.ca_file:
        rows.append(
            ("its authority", f"{bucket.ca_file}, {_fingerprint(bucket.ca_file.read_bytes())}")
        )
    if newest is None:
        return [*rows, ("newest set", "NONE")]
    hours = (now - newest.manifest.time).total_seconds() / 3600
    made = newest.manifest
    return [
        *rows,
        ("newest set", f"{made.id}, {hours:.0f} h old, {size(made.bytes)}"),
        ("its manifest", f"sha256 {newest.sha256}"),
        ("opened by", ", ".join(made.recipients)),
    ]


def _keys(config: Config, openings: Sequence[Opening]) -> Rows:
    rows = [("recipient", f"{_fingerprint(key.encode())}  {key}") for key in config.keys.recipients]
    rows += [
        ("trusted signature", f"{signature.fingerprint(b64decode(key))}  {key}")
        for key in config.need_trusted()
    ]
    for item in openings:
        rows.append(("private key", f"{item.fingerprint} in {item.file}; also at {UNKNOWN}"))
        rows.append(
            ("", f"DOES NOT OPEN the newest set: {item.error}")
            if item.error
            else ("", f"opens the newest set today: {item.words}")
        )
    rows.append(("S3 credentials", f"in {config.store.access_key_file}; also at {UNKNOWN}"))
    return rows


def _steps() -> list[str]:
    try:
        text = RUNBOOK.read_text()
    except OSError as error:
        raise MachineError(
            f"{repo.relative(RUNBOOK)} is not here", next="print the kit from a checkout"
        ) from error
    return re.findall(r"^## \d+\. (.+)$", text, re.MULTILINE)


def _git(*words: str) -> str:
    if not proc.which("git"):
        return ""
    said = proc.run(["git", "-C", repo.ROOT, *words], check=False)
    return said.out.strip() if said.code == 0 else ""


def _fingerprint(public: bytes) -> str:
    return hashlib.sha256(public).hexdigest()[:16]
