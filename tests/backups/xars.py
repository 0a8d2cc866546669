"""Archives as XWiki writes them, and as it should not."""

import base64
import io
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape, quoteattr

Entry = tuple[str, str | bytes]


def page(
    reference: str,
    content: str = "text",
    *,
    locale: str = "",
    attachments: Mapping[str, bytes] | None = None,
    extra: str = "",
) -> str:
    """A page's XML. content is escaped; extra goes in as it is."""
    space, _, name = reference.rpartition(".")
    files = "".join(
        f"<attachment><filename>{escape(file)}</filename><filesize>{len(data)}</filesize>"
        f"<content>{base64.encodebytes(data).decode()}</content></attachment>"
        for file, data in (attachments or {}).items()
    )
    return (
        '<?xml version="1.1" encoding="UTF-8"?>\n'
        f'<xwikidoc version="1.5" reference={quoteattr(reference)} locale="{locale}">'
        f"<web>{escape(space)}</web><name>{escape(name)}</name><language>{locale}</language>"
        "<author>xwiki:XWiki.Alice</author><version>3.1</version><title>Title</title>"
        f"<content>{escape(content)}</content>{files}{extra}</xwikidoc>"
    )


def package(files: Sequence[tuple[str, str]]) -> str:
    """package.xml that names references with their locales."""
    listed = "".join(
        f'<file defaultAction="0" language="{locale}">{escape(reference)}</file>'
        for reference, locale in files
    )
    return f"<package><infos><name>backup</name></infos><files>{listed}</files></package>"


def pack(entries: Sequence[Entry], files: Sequence[tuple[str, str]] | None) -> bytes:
    """A ZIP streamed as XWiki streams it, package.xml last. files: None for no package.xml."""
    target = io.BytesIO()
    every = [*entries, *([("package.xml", package(files))] if files is not None else [])]
    with warnings.catch_warnings():
        # That a name stands twice may be what is wanted.
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(_Stream(target), "w", zipfile.ZIP_DEFLATED) as packed:  # type: ignore[call-overload]
            for name, text in every:
                packed.writestr(name, text)
    return target.getvalue()


def xar(pages: Mapping[str, str]) -> bytes:
    """A whole archive of pages: reference to content."""
    entries = [(f"{ref.replace('.', '/')}.xml", page(ref, text)) for ref, text in pages.items()]
    return pack(entries, [(reference, "") for reference in pages])


class _Stream:
    """A file that can only be written, so that sizes follow their bytes."""

    def __init__(self, target: io.BytesIO) -> None:
        self._target = target

    def write(self, data: bytes) -> int:
        return self._target.write(data)

    def flush(self) -> None:
        pass
