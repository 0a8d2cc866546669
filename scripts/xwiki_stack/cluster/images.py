"""ci/images.yaml as data, and the images of the offline bed: made, named, brought into nodes."""

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from xwiki_stack import proc, repo
from xwiki_stack.cluster import artefacts, engine, machine, progress
from xwiki_stack.cluster.registry import Bed
from xwiki_stack.errors import MachineError
from xwiki_stack.steps import Log

TABLE = repo.ROOT / "ci" / "images.yaml"


@dataclass(frozen=True)
class Image:
    """One line of the table. `folder`: what makes it, '' for what a node image carries.

    `inputs` are further files and folders that go into it; `base` names the image it stands on.
    """

    name: str
    upstream: str
    local: str
    made: str
    stand_in: bool
    not_covered: str
    used_by: str
    needed_for: str
    version: str = ""
    folder: str = ""
    values: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    base: str = ""

    @property
    def source(self) -> Path:
        """The folder that makes it."""
        return repo.ROOT / self.folder

    @property
    def reference(self) -> str:
        """The local image's full name, its tag keyed by the content that makes it."""
        if not self.folder:
            return self.local
        parts = [self.source, *(repo.ROOT / path for path in self.inputs)]
        key = repo.digest(*parts, *([named(self.base).reference] if self.base else []))
        return f"{self.local}:{self.version}-{key}"


@cache
def table() -> tuple[Image, ...]:
    """All images."""
    document = yaml.safe_load(TABLE.read_text())
    return tuple(
        Image(
            name=entry["name"],
            upstream=entry["upstream"],
            local=entry["local"],
            made=entry["made"],
            stand_in=entry["standIn"],
            not_covered=entry["notCovered"],
            used_by=entry["usedBy"],
            needed_for=entry["neededFor"],
            version=entry.get("version", ""),
            folder=entry.get("folder", ""),
            values=tuple(entry.get("values", ())),
            inputs=tuple(entry.get("inputs", ())),
            base=entry.get("base", ""),
        )
        for entry in document["images"]
    )


def named(name: str) -> Image:
    """The image of that name."""
    (found,) = [image for image in table() if image.name == name]
    return found


def made_here(*, tests: bool) -> list[Image]:
    """The images that the offline bed builds from a folder of images/; with `tests` all of them."""
    return [image for image in table() if image.folder and (tests or image.needed_for == "up")]


def build(image: Image, log: Log) -> str:
    """Run `images/<name>/build TAG WORKDIR` unless the engine has the image. Gives the outcome.

    The script leaves a docker image of that tag. Its environment: DOCKER_HOST; DEB_MIRROR, the
    archive of this machine's own apt; PYTHON, which runs this; BASE, the image to stand on. Older
    versions of the image are dropped.
    Raises MachineError when the recipe is missing, fails or leaves no image.
    """
    docker, target = engine.require(), image.reference
    if docker.has_image(target):
        return "nothing to do"
    script = image.source / "build"
    if not script.exists():
        raise MachineError(f"{image.folder}/build is missing", next="restore the checkout")
    name = f"image-{image.name}"
    with artefacts.lock(name, log), artefacts.workspace(name) as work:
        if docker.has_image(target):
            return "made by another run"
        path = docker.environment.get("PATH") or machine.system_path()
        env = {
            **docker.environment,
            "PATH": path,
            "DEB_MIRROR": machine.debian_mirror(),
            "PYTHON": sys.executable,
            "BASE": named(image.base).reference if image.base else "",
        }
        # In a mount namespace of its own: what its debootstrap mounts ends with it.
        with progress.Watch(log, progress.debootstrap):
            log.run(["unshare", "--mount", script, target, work], env=env, cwd=work)
    if not docker.has_image(target):
        raise MachineError(f"{image.folder}/build left no image {target}", next=f"read {log.path}")
    docker.forget_older(image.local, image.reference)
    return "made"


def load(docker: engine.Engine, nodes: list[str], references: list[str], log: Log) -> str:
    """Bring images of the engine into every node that lacks them. Gives the outcome."""
    loaded = 0
    control = ["ctr", "--namespace", "k8s.io", "images"]
    # What is unpacked is not kept packed as well: half the disk.
    read = [*control, "import", "--local", "--discard-unpacked-layers", "-"]
    for node in nodes:
        have = set(proc.run(docker.docker("exec", node, *control, "list", "-q")).out.split())
        for reference in references:
            if reference in have:
                continue
            log.say(f"{reference} into {node}")
            proc.pipe(
                docker.docker("save", reference),
                docker.docker("exec", "-i", node, *read),
                log=log.path,
            )
            loaded += 1
    return f"{loaded} loaded" if loaded else "nothing to do"


def overrides(bed: Bed) -> dict[str, Any] | None:
    """Chart values that replace upstream images by the bed's own; None where they are pulled.

    Shape: {"mysql": {"image": {"repository": ..., "tag": ...}}, "xwiki": {...}}.
    """
    if bed is Bed.REGISTRY:
        return None
    values: dict[str, Any] = {}
    for image in table():
        repository, _, tag = image.reference.rpartition(":")
        for path in image.values:
            *parents, last = path.split(".")
            place = values
            for word in parents:
                place = place.setdefault(word, {})
            place[last] = {"repository": repository, "tag": tag}
    return values


def toolbox(bed: Bed) -> str:
    """The image with a shell and network tools, for pods of tests."""
    found = named("toolbox")
    return found.upstream if bed is Bed.REGISTRY else found.local


def describe(reference: str) -> str:
    """An image as a summary names it: what it is, and whether it is a stand-in."""
    for image in table():
        repository = image.local if image.folder else image.local.rpartition(":")[0]
        if reference == image.reference or reference.startswith(f"{repository}:"):
            kind = "STAND-IN for" if image.stand_in else "made here for"
            return f"{reference}: {kind} {image.upstream}"
        if reference.partition("@")[0] == image.upstream.partition("@")[0]:
            return f"{reference}: pulled from its registry"
    return reference
