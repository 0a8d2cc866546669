"""Jinja templates of values/templates: the same facts give the same bytes."""

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from xwiki_stack import repo


def text(name: str, **facts: Any) -> str:
    """A template of values/templates filled in; a fact that it misses is an error of ours."""
    jinja = _environment(repo.ROOT / "values" / "templates")
    rendered = jinja.get_template(name).render(**facts)
    return "\n".join(line.rstrip() for line in rendered.splitlines()) + "\n"


@cache
def _environment(folder: Path) -> Environment:
    """One for a folder: it compiles a template once, and anew where its file has changed."""
    return Environment(
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - YAML, not HTML
    )
