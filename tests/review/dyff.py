"""dyff, another's comparison of YAML, and whether it and ours name the same places.

Both tell a place in words of their own (dyff: `/spec/containers/name=wiki/image`, ours:
`spec.containers[wiki].image`), so each is looked up in the objects, and nodes are compared.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from xwiki_stack import cluster, proc
from xwiki_stack.policy import Manifest
from xwiki_stack.review import changes
from xwiki_stack.review.changes import ABSENT, KEYS, Change, Difference, Fate

Steps = tuple[str | int, ...]
"""The way to a node: keys of maps, numbers of items."""

OLD, NEW = 0, 1

MORE = tuple({"kind": "More", "metadata": {"name": name}} for name in ("one", "two"))
"""Goes with all objects: dyff does not tell the name of one that is alone."""

WORDS = (
    *("--color", "off", "between", "--output", "github", "--use-go-patch-style"),
    # As it is written: not the likeliest other name of an object, not a text that holds JSON.
    *("--use-indent-lines=false", "--detect-renames=false", "--format-strings=false"),
)

RENAMED = "hash in a name"
"""As ours calls another name of the same object; to dyff these are two objects."""

PARAGRAPH = re.compile(r"^@@ (/.*|\(file level\)) @@\n(?:# (.+)\n)?", re.M)
"""Path and object, before what is different there; neither, where it is the order of objects."""

DETAIL = re.compile(r"^! ([-+±⇆]) (.*\n(?:(?!! ).*\n)*)", re.M)
"""What is different, of which kind; entries that came or went follow as YAML."""


@dataclass(frozen=True, order=True)
class Place:
    """A node that a comparison calls different: on which side, of which object, where in it."""

    side: int
    name: str
    steps: Steps = ()

    def __str__(self) -> str:
        """For a reader."""
        return f"{('old', 'new')[self.side]} {self.name} /{'/'.join(map(str, self.steps))}"


class Pair:
    """Two lists of objects, and the places at which each comparison finds that they differ."""

    def __init__(self, old: Sequence[Manifest], new: Sequence[Manifest]) -> None:
        self.compared = changes.compare("pair", "", old, new)
        self.sides = tuple(
            {name_of(item): changes.masked(item) for item in side} for side in (old, new)
        )
        for side, named in zip((old, new), self.sides, strict=True):
            assert len(named) == len(side), "two objects of one name: dyff sees only the last"

        self.difference = {
            (side, name_of(one)): item
            for item in self.compared.differences
            for side, one in enumerate((item.old, item.new))
            if one
        }

    def node(self, place: Place) -> Any:
        """What is there."""
        return _at(self.sides[place.side][place.name], place.steps)

    def ours(self) -> set[Place]:
        """The places of `xwiki-stack review`."""
        return {place for item in self.compared.shown for place in self._of(item)}

    def theirs(self, folder: Path) -> set[Place]:
        """The places of dyff, which reads the objects from files in a folder."""
        files = [folder / name for name in ("old.json", "new.json")]
        for file, side in zip(files, self.sides, strict=True):
            every = (*MORE, *(side[name] for name in sorted(side)))
            file.write_text("\n".join(json.dumps({"apiVersion": "v1", **item}) for item in every))
        said = PARAGRAPH.split(proc.run([cluster.tools().dyff, *WORDS, *files]).out + "\n")
        told = zip(said[1::3], said[2::3], said[3::3], strict=True)
        return {
            place for path, name, body in told if name for place in self._told(path, name, body)
        }

    def alone(self, some: Iterable[Place], others: Iterable[Place]) -> set[Place]:
        """The places of one comparison that the other has nothing for."""
        known: dict[tuple[int, str], list[Place]] = {}
        for place in others:
            known.setdefault((place.side, place.name), []).append(place)
        return {
            place
            for place in some
            if not any(
                self._same(place, other) for other in known.get((place.side, place.name), ())
            )
        }

    def noise(self, places: Iterable[Place]) -> Counter[str]:
        """What ours calls these places where it leaves them out; the place itself where it has no
        such word."""
        found = {
            (self.difference[place.side, place.name].identity, place.steps): self._word(place)
            for place in places
        }
        return Counter(found.values())

    def folded(self) -> Counter[str]:
        """What ours leaves out, where dyff looks: in an object of another name it does not."""
        return Counter(
            word
            for item in self.compared.differences
            for word in item.folded
            if (item.fate is Fate.REPLACED) == (word == RENAMED)
        )

    def _word(self, place: Place) -> str:
        if not place.steps and self.difference[place.side, place.name].fate is Fate.REPLACED:
            return RENAMED
        path = ""
        for step in place.steps:
            path = changes.joined(path, str(step))
        if f".annotations[{changes.CHECKSUM}" in path:
            return changes.CHECKSUM_WORD
        return changes.NOISE.get(path, str(place))

    def _same(self, one: Place, other: Place) -> bool:
        """Whether two places are one, or one lies in the other.

        That may only be in a list, since who tells items apart by another field finds the
        difference in an item, or has one item for another; or in a whole object, where one
        comparison knows it again under another name.
        """
        upper, lower = sorted((one.steps, other.steps), key=len)
        if upper == lower:
            return True
        within = lower[: len(upper)] == upper
        item = not upper or isinstance(upper[-1], int)
        return within and (item or isinstance(self.node(Place(one.side, one.name, upper)), list))

    def _of(self, item: Difference) -> Iterator[Place]:
        both = (item.old, item.new)
        if item.old is None or item.new is None:
            yield from (Place(side, name_of(one)) for side, one in enumerate(both) if one)
            return
        names = name_of(item.old), name_of(item.new)
        nodes = [side[name] for side, name in zip(self.sides, names, strict=True)]
        for change in item.changes:
            ways = [way for way in _ways(nodes, change.path) if _leads(way, nodes, change)]
            assert ways, f"{item.identity}: nothing is at {change.path}"
            for side, steps in chain.from_iterable(map(enumerate, ways)):
                if steps is not None:
                    yield Place(side, names[side], steps)

    def _told(self, path: str, name: str, body: str) -> Iterator[Place]:
        words = [word for word in path.split("/") if word]
        details = DETAIL.findall(body)
        assert details, f"{name}: dyff tells nothing of {path}:\n{body}"
        for kind, text in details:
            sides = {"-": [OLD], "+": [NEW]}.get(kind, [OLD, NEW])
            if not words and "document" in text.partition("\n")[0]:
                yield from (Place(side, name) for side in sides)
                continue
            for side in sides:
                found = [Place(side, name, way) for way in _follow(self.sides[side][name], words)]
                assert found, f"{name}: nothing is at {path}"
                for place in found:
                    yield from self._entries(place, text) if kind in "+-" else [place]

    def _entries(self, place: Place, text: str) -> Iterator[Place]:
        """The entries of a map or a list that came or went, by what dyff shows of them."""
        shown = "\n".join(line[2:] for line in text.splitlines()[1:])
        node = self.node(place)
        steps = [(key, key) for key in node]
        if isinstance(node, list):
            steps = list(enumerate(map(_text, node)))
        for entry in yaml.load(shown, yaml.BaseLoader):  # noqa: S506 - it makes texts alone
            found = [step for step, text in steps if text == entry]
            assert found, f"{place}: there is no {entry}"
            yield from (Place(place.side, place.name, (*place.steps, step)) for step in found)


def name_of(item: Manifest) -> str:
    """An object as dyff calls it."""
    about = item["metadata"]
    words = [item.get("apiVersion", "v1"), item["kind"], about.get("namespace"), about["name"]]
    return "/".join(filter(None, words))


def _text(node: Any) -> Any:
    """A node with all that is no map and no list as YAML writes it."""
    if isinstance(node, dict):
        return {key: _text(inner) for key, inner in node.items()}
    if isinstance(node, list):
        return [_text(inner) for inner in node]
    return node if isinstance(node, str) else json.dumps(node)


def _at(node: Any, steps: Steps | None) -> Any:
    """The node at the end of a way; ABSENT where there is none."""
    if steps is None:
        return ABSENT
    for step in steps:
        node = node[step]
    return ABSENT if node is None else node


def _follow(node: Any, words: Sequence[str]) -> Iterator[Steps]:
    """Where a path of dyff's leads: nothing tells a slash in a key from one between two keys."""
    if not words:
        yield ()
    for count in range(1, len(words) + 1):
        for step in _steps(node, "/".join(words[:count])):
            yield from ((step, *rest) for rest in _follow(node[step], words[count:]))


def _steps(node: Any, word: str) -> Iterator[str | int]:
    if isinstance(node, dict) and word in node:
        yield word
    key, _is, value = word.partition("=")
    for number, item in enumerate(node if isinstance(node, list) else ()):
        if word == str(number) or (value and _text(item[key]) == value):
            yield number


Way = tuple[Steps | None, Steps | None]
"""To the old and the new node; None where there is none."""


def _ways(nodes: Sequence[Any], path: str, at: str = "") -> Iterator[Way]:
    """Where a path of ours may lead."""
    if path in (at, f"{at} (order)"):
        yield (), ()
    for label, *steps in _children(nodes, at):
        if changes.under(path, label):
            ways = [None if step is None else (step,) for step in steps]
            inner = [_at(node, way) for node, way in zip(nodes, ways, strict=True)]
            for rest in _ways(inner, path, label):
                old, new = (
                    None if way is None or more is None else (*way, *more)
                    for way, more in zip(ways, rest, strict=True)
                )
                yield old, new


def _children(
    nodes: Sequence[Any], at: str
) -> Iterator[tuple[str, str | int | None, str | int | None]]:
    """What is below a node, by what our paths call it: key or number in the old and the new one."""
    maps = [node if isinstance(node, dict) else {} for node in nodes]
    for key in {**maps[0], **maps[1]}:
        old, new = (key if key in own else None for own in maps)
        yield changes.joined(at, key), old, new
    lists = [node if isinstance(node, list) else [] for node in nodes]
    for field in KEYS:
        named = [_named(items, field) for items in lists]
        for name in {**named[0], **named[1]}:
            yield f"{at}[{name}]", named[0].get(name), named[1].get(name)
    gone, came = (
        [number for number, item in enumerate(items) if item not in others]
        for items, others in (lists, reversed(lists))
    )
    yield from ((f"{at}[]", number, None) for number in gone)
    yield from ((f"{at}[]", None, number) for number in came)
    if len(gone) == len(came) == 1:
        yield f"{at}[{came[0]}]", gone[0], came[0]


def _named(items: Sequence[Any], field: str) -> dict[str, int]:
    """The numbers of items by what tells them apart; of a name that two have, the last."""
    found: dict[str, int] = {}
    for number, item in enumerate(items):
        name = item
        for part in field.split("."):
            name = name.get(part) if isinstance(name, dict) else None
        if isinstance(name, str | int):
            found[str(name)] = number
    return found


def _leads(way: Way, nodes: Sequence[Any], change: Change) -> bool:
    """Whether a way ends at the values that a change tells."""
    if change.path.endswith(" (order)"):
        return True
    found = [_at(node, steps) for node, steps in zip(nodes, way, strict=True)]
    return found == [change.old, change.new]
