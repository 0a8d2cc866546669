"""Jinja templates of values/templates: the same facts give the same bytes."""

from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from xwiki_stack import repo


def text(name: str, **facts: Any) -> str:
    """A template of values/templates filled in; a fact that it misses is an error of ours."""
    jinja = Environment(
        loader=FileSystemLoader(repo.ROOT / "values" / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - YAML, not HTML
    )
    rendered = jinja.get_template(name).render(**facts)
    return "\n".join(line.rstrip() for line in rendered.splitlines()) + "\n"
