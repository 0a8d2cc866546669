"""Every container image that environments use: where it is written, and what pins it.

One field holds it all: `tag: <version>@sha256:<digest>`. The digests of the wiki's and the
database's images are part of the intent; those of other images stand beside their version in the
chart's values.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from xwiki_stack import generate, intent, policy, render, repo
from xwiki_stack.cluster import registry
from xwiki_stack.errors import IntentError, UndecidedError
from xwiki_stack.intent import Environment
from xwiki_stack.policy import Manifest

PINNED_BY = {"xwiki.image": "xwiki", "mysql.image": "mysql", "xwiki.database.clientImage": "mysql"}
"""Path in the umbrella's values to the key of `images` in the intent that pins it."""


@dataclass(frozen=True)
class Image:
    """An image of an environment: its name, what pins it, who runs it, where it is written.

    `key` is that of `images` in the intent, '' for an image that no intent pins; `origin` is a
    file and the path in it.
    """

    environment: str
    repository: str
    tag: str
    digest: str
    key: str
    origin: str
    users: tuple[str, ...]


@dataclass(frozen=True)
class Pin:
    """A digest that was written into an intent, or stood there already."""

    key: str
    name: str
    old: str
    new: str


def listing(names: Sequence[str] = ()) -> list[Image]:
    """The images of environments (none: of all), decided or not, each once for an environment.

    Raises IntentError for an unknown environment.
    """
    found: list[Image] = []
    for name in names or intent.environments():
        environment = intent.load_environment(name)
        values = yaml.safe_load(generate.preview([name])[0].text)
        found += images_of(environment, values, render.helm_template(values=[values]))
    return found


def images_of(
    environment: Environment, values: dict[str, Any], objects: Sequence[Manifest]
) -> list[Image]:
    """The images in an environment's objects, each with the place that names it."""
    users: dict[str, list[str]] = {}
    for item in objects:
        for container in policy.containers_of(item):
            user = f"{item['kind']} {item['metadata']['name']}"
            users.setdefault(container["image"], []).append(user)
    found = []
    for reference, who in sorted(users.items()):
        name, _, digest = reference.partition("@")
        repository, _, tag = name.rpartition(":")
        key, origin = _origin(environment, values, repository, reference)
        every = tuple(dict.fromkeys(who))
        found.append(Image(environment.name, repository, tag, digest, key, origin, every))
    return found


def text(images: Sequence[Image]) -> str:
    """The images for people, an environment after the other."""
    lines: list[str] = []
    for name in dict.fromkeys(image.environment for image in images):
        lines.append(f"{name}:")
        for image in (item for item in images if item.environment == name):
            lines += [
                f"  {image.repository}:{image.tag}",
                f"    {image.digest or 'not pinned by digest'}",
                f"    written in {image.origin}; run by {', '.join(image.users)}",
            ]
    return "\n".join(lines)


def check(names: Sequence[str] = ()) -> list[Image]:
    """The images that no digest pins, of environments where they may be so.

    Raises UndecidedError when production has one: who pulls a tag tomorrow gets what it means then.
    """
    loose = [image for image in listing(names) if not image.digest]
    for name in dict.fromkeys(image.environment for image in loose):
        environment = intent.load_environment(name)
        if environment.purpose == "prod":
            own = [image for image in loose if image.environment == name]
            raise UndecidedError(
                f"{name} has {len(own)} image{'s' if len(own) > 1 else ''} that no digest pins: "
                + ", ".join(f"{image.repository}:{image.tag} ({image.origin})" for image in own),
                next=f"`xwiki-stack images pin --env {name}` asks their registries",
            )
    return loose


def pin(name: str, keys: Sequence[str] = ()) -> list[Pin]:
    """Write the digests that the tags of an environment mean now into its intent.

    keys: of `images` in the intent; none: all that are not decided otherwise. Raises
    UndecidedError while the version itself is open, IntentError for an unknown key, and what
    `registry.digest_of` raises; then nothing was written.
    """
    environment = intent.load_environment(name)
    for key in keys:
        if key not in PINNED_BY.values():
            known = ", ".join(sorted(set(PINNED_BY.values())))
            raise IntentError(f"no intent pins an image {key!r}", allowed=known)
    if intent.is_undecided(environment.mysql) and "mysql" in (keys or ("mysql",)):
        raise UndecidedError(
            "the line of MySQL is not decided, so there is no image to pin",
            where=f"{repo.relative(environment.path)}: mysql",
            next="decide it, or name the image to pin: `xwiki-stack images pin xwiki`",
        )
    tags = {image.key: image for image in listing([name]) if image.key}
    pins = [
        Pin(
            key,
            f"{tags[key].repository}:{tags[key].tag}",
            tags[key].digest,
            registry.digest_of(tags[key].repository, tags[key].tag),
        )
        for key in sorted(tags)
        if key in (keys or tags)
    ]
    before = environment.path.read_text(encoding="utf-8")
    after = before
    for item in pins:
        after = with_digest(after, item.key, item.new, repo.relative(environment.path))
    if after != before:
        environment.path.write_text(after, encoding="utf-8")
    return pins


def with_digest(text: str, key: str, digest: str, where: str) -> str:
    """An intent's text with one digest of `images` set, all else as it was, comments too.

    Raises IntentError where the file is written in a form that this cannot keep.
    """
    document = yaml.safe_load(text)
    wanted = {**document, "images": {**(document.get("images") or {}), key: digest}}
    lines = text.splitlines()
    head = next((n for n, line in enumerate(lines) if re.match(r"images:\s*(#.*)?$", line)), None)
    own = re.compile(rf"(\s+{key}:\s*)[^\s#]+(.*)$")
    if "images" not in document:
        lines += ["images:", f"  {key}: {digest}"]
    elif head is not None:
        block = range(head + 1, _end(lines, head))
        place = next((n for n in block if own.match(lines[n])), None)
        if place is None:
            beside = next(
                (re.match(r"\s+(?=\w)", lines[n]) for n in block if lines[n].strip()), None
            )
            lines.insert(head + 1, f"{beside[0] if beside else '  '}{key}: {digest}")
        else:
            lines[place] = own.sub(rf"\g<1>{digest}\g<2>", lines[place])
    written = "\n".join(lines) + "\n"
    if _read(written) != wanted:
        raise IntentError(
            "its form cannot be kept while writing a digest",
            where=f"{where}: images",
            allowed="`images:` on a line of its own, a key a line below",
            next=f"write {key}: {digest} there yourself",
        )
    return written


def _read(text: str) -> Any:
    """What a text says as YAML; None where it is none."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None


def _end(lines: Sequence[str], head: int) -> int:
    """The line after a block: the next one that begins in the first column."""
    below = (n for n in range(head + 1, len(lines)) if re.match(r"[^\s#]", lines[n]))
    return next(below, len(lines))


def _origin(
    environment: Environment, values: dict[str, Any], repository: str, reference: str
) -> tuple[str, str]:
    """The intent's key and the place that names an image: the intent, else a chart's values."""
    for path in _places(values, repository, reference):
        if path in PINNED_BY:
            key = PINNED_BY[path]
            return key, f"{repo.relative(environment.path)}: images.{key}"
        generated = repo.relative(generate.path_of(environment.name))
        return "", f"{generated}: {path}.tag"
    for chart in sorted((repo.ROOT / "charts").iterdir()):
        file = chart / "values.yaml"
        for path in _places(_mapping(file), repository, reference):
            return "", f"{repo.relative(file)}: {path}.tag"
    return "", "a template"


def _places(values: Any, repository: str, reference: str, path: str = "") -> Iterator[str]:
    """Paths to the settings of an image that come to this reference."""
    if not isinstance(values, dict):
        return
    if values.get("repository") == repository and f"{repository}:{values.get('tag')}" == reference:
        yield path
    for key, inner in values.items():
        yield from _places(inner, repository, reference, f"{path}.{key}" if path else key)


def _mapping(file: Path) -> dict[str, Any]:
    found = yaml.safe_load(file.read_text()) if file.is_file() else {}
    return found or {}
