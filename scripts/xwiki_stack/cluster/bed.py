"""The way from a bare machine to a healthy cluster, as steps; and what callers ask of it."""

import os
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from xwiki_stack import proc, repo, steps
from xwiki_stack.cluster import (
    artefacts,
    engine,
    golang,
    images,
    kind,
    machine,
    nodeimage,
    npm,
    pins,
    programs,
    progress,
    registry,
)
from xwiki_stack.cluster.registry import Bed, Choice
from xwiki_stack.errors import IntentError, MachineError
from xwiki_stack.steps import Log, Step

TEST_PREFIX = "xwiki-stack-test"
"""Clusters of this prefix belong to tests: they hold no pages and are made anew when needed."""

MOST_NODES = 5

NODE_PROGRAMS = ("kubelet", "containerd", "systemd")
"""Beginnings of the names of what a node runs beside its pods' programs."""

GIGABYTES = {"kubernetes": 5.0, "module": 1.0, "node": 2.0, "image": 1.0, "cluster": 4.0}
"""Disk that each part may take while it is made: 20 GB where nothing is cached (ci/bed/README.md).
kubernetes, module: a build with its share of Go's caches."""


@dataclass(frozen=True)
class Config:
    """A cluster that is wanted. `extras`: also what only tests need (Helm 3, test images)."""

    name: str
    nodes: int = 1
    extras: bool = False

    def __post_init__(self) -> None:
        """Raise IntentError for a number of nodes that makes no sense on one machine."""
        if not 1 <= self.nodes <= MOST_NODES:
            raise IntentError(
                f"{self.nodes} nodes", where=f"cluster {self.name}", allowed=f"1 to {MOST_NODES}"
            )


def system_packages(name: str = "", *, peers: bool = False) -> list[str]:
    """Debian packages that a cluster's bed needs and the machine lacks; the caller asks first.

    None where an engine answers and images can be pulled. peers: also what benches compare with.
    Raises MachineError where this machine cannot have that bed, or cannot install them.
    """
    choice = _possible(name)
    needs_engine = engine.wanted_packages()
    offline = choice.bed is Bed.OFFLINE
    missing = machine.missing_packages(engine=needs_engine, bed=offline, peers=peers)
    if missing:
        machine.installer(missing)
    return missing


def install_packages(log: Log, name: str = "", *, peers: bool = False) -> str:
    """Install `system_packages()`; a step's work."""
    packages = system_packages(name, peers=peers)
    machine.install(packages, log)
    return " ".join(packages) or "nothing to do"


def describe_bed(name: str = "") -> str:
    """Where the images of a cluster come from, why, and how to have it otherwise."""
    return _bed(name).text


def tool_steps(*, extras: bool = False, also: Collection[str] = ()) -> list[Step]:
    """Steps that put kubectl, helm and kind (and, for tests, all that they run) in place.

    also: names of tools beside these, that few commands need.
    """
    tooling = _tools(extras=extras, also=also)
    return [*tooling, _drop_caches(tooling)]


def prepare(config: Config) -> list[Step]:
    """All steps up to a healthy cluster with its images; the last one needs all others.

    Raises MachineError where this machine cannot have the cluster's bed.
    """
    choice = _possible(config.name)
    bed = choice.bed
    plan = [
        Step("bed", "Images", lambda _log: choice.text),
        Step("engine", "Container engine", engine.start),
        Step("disk", "Disk", lambda _log: _room(config, bed), ("engine",)),
    ]
    tooling = _tools(extras=config.extras)
    if bed is Bed.OFFLINE:
        plan += _offline_steps(config, tooling)
    else:
        plan += [*tooling, _drop_caches(tooling)]
        plan.append(Step("node-image", "Node image", _pull_node, ("disk",)))
    ready = ("disk", "tool-kind", "tool-kubectl", "node-image")
    wanted = _wanted(config, bed)
    plan.append(Step("cluster", f"Cluster {config.name}", partial(kind.ensure, wanted), ready))
    everything = tuple(step.name for step in plan)
    load = partial(_load, config, bed)
    plan.append(Step("load", "Images into the cluster", load, everything))
    return plan


def delete(name: str) -> bool:
    """Delete a cluster with all its data; say whether there was one. RefusedError if not ours."""
    return kind.delete(name, _log(f"delete-{name}"))


def abandoned() -> list[str]:
    """The tests' clusters whose checkout is gone: nobody will ask for them by name again."""
    return [name for name in kind.orphans() if name.startswith(TEST_PREFIX)]


def stop(name: str) -> bool:
    """Stop a cluster's nodes, keeping its data; say whether it ran. RefusedError if not ours."""
    return kind.stop(name)


def stop_engine_if_idle() -> bool:
    """Stop the engine if it is ours and nothing runs on it or is being made; say whether it did."""
    found = engine.running()
    if not found or not found.ours or artefacts.busy():
        return False
    containers = set(proc.run(found.docker("ps", "--format", "{{.Names}}")).out.split())
    # What an interrupted run left of a node image's making waits for nobody.
    return not containers - {nodeimage.BUILDER} and engine.stop()


def restart_nodes(name: str) -> None:
    """Restart all node containers and wait until the cluster is healthy again."""
    kind.restart(name, _log(f"restart-{name}"))


def on_node(name: str, node: str, argv: Sequence[str]) -> proc.Result:
    """Run a command inside a node of a cluster of ours."""
    return kind.on_node(name, node, argv)


def platform_memory(name: str) -> dict[str, int]:
    """Resident bytes of what runs a cluster's pods: programs of its nodes, and our own engine."""
    docker = engine.require()
    ask = ["ps", "-e", "-o", "rss=,comm="]
    said = [kind.on_node(name, node.name, ask).out for node in kind.nodes(docker, name)]
    sizes = [line.split(maxsplit=1) for text in said for line in text.splitlines()]
    own = sum(int(size) * 1024 for size, program in sizes if program.startswith(NODE_PROGRAMS))
    found = {f"{', '.join(NODE_PROGRAMS)} of the nodes": own}
    return {**found, "dockerd": engine.resident()} if docker.ours else found


def kubeconfig(name: str) -> Path:
    """Where the kubeconfig of a cluster lies."""
    return kind.kubeconfig(name)


def environment(name: str = "") -> dict[str, str]:
    """What children need: PATH with the pinned tools first, DOCKER_HOST, kubectl's cache in ours.

    For a named cluster also KUBECONFIG and its bed, so that children do not ask a registry again.
    """
    found = engine.running()
    extra = dict(found.environment) if found else {}
    path = extra.get("PATH", os.environ.get("PATH", ""))
    extra["PATH"] = f"{programs.tools().folder}{os.pathsep}{path}"
    extra["KUBECACHEDIR"] = str(repo.cache() / "kube")
    if name:
        extra["KUBECONFIG"] = str(kubeconfig(name))
        extra[registry.VARIABLE] = _bed(name).bed.value
    return extra


def image_values(name: str) -> dict[str, Any] | None:
    """Chart values for a cluster's own images; None where images are pulled."""
    return images.overrides(_bed(name).bed)


def toolbox_image(name: str = "") -> str:
    """The image with a shell and network tools, for pods of tests on a cluster."""
    return images.toolbox(_bed(name).bed)


def describe(name: str) -> str:
    """What a cluster is, in a few words."""
    record = kind.read_record(name)
    if record is None:
        return f"{name} does not exist"
    version = record.image.partition("@")[0].rpartition(":")[2].partition("-")[0]
    origin = (
        "kind's own node image"
        if record.bed == Bed.REGISTRY.value
        else ("a node image made here, without a registry (ci/bed/README.md)")
    )
    return f"{version} on kind, {record.nodes} node(s), {origin}"


def describe_image(reference: str) -> str:
    """An image as a summary names it."""
    return images.describe(reference)


def _tools(*, extras: bool, also: Collection[str] = ()) -> list[Step]:
    tooling = [
        Step(
            f"tool-{tool.name}",
            f"{tool.name} {tool.version}",
            partial(programs.install, tool.name),
            # Those of the wheel wait for each other, those of Go for the compiler.
            lane="wheel" if tool.wheel else golang.LANE,
        )
        for tool in pins.tools().values()
        if extras or not tool.test_only or tool.name in also
    ]
    if not extras:
        return tooling
    renovate = Step("renovate", "Renovate", partial(npm.install, "renovate"), lane="npm")
    return [*tooling, renovate]


def _drop_caches(compilers: Sequence[Step]) -> Step:
    """What every plan ends with that may have compiled."""
    needs = tuple(step.name for step in compilers)
    return Step("go-caches", "Go caches", lambda _log: golang.drop_caches(), needs)


def _offline_steps(config: Config, tooling: list[Step]) -> list[Step]:
    """Tools and everything that the node image is made of, what tests alone need at the end."""
    modules = pins.modules()
    ready = ("disk",)
    root = Step(
        "node-rootfs",
        "Debian for the node image",
        nodeimage.build_root,
        ready,
        lane="debootstrap",
    )
    recipes = [
        Step(
            f"image-{image.name}",
            f"Image {image.name}",
            partial(images.build, image),
            (*ready, f"image-{image.base}") if image.base else ready,
            lane="debootstrap",
        )
        for image in images.made_here(tests=config.extras)
    ]
    builds = [
        Step(
            f"go-{name}",
            f"{name} {modules[name].version}",
            partial(_compile, modules[name]),
            ready,
            lane=golang.LANE,
        )
        for name in nodeimage.MODULES
    ]
    built = tuple(step.name for step in builds)
    late = [f"tool-{tool.name}" for tool in pins.tools().values() if tool.test_only]
    return [
        *(step for step in tooling if step.name not in late),
        root,
        *builds,
        *recipes,
        Step(
            "node-image",
            "Node image",
            nodeimage.build,
            ("disk", "node-rootfs", "tool-kubectl", *built),
        ),
        *(step for step in tooling if step.name in late),
        _drop_caches([*builds, *tooling]),
    ]


def _room(config: Config, bed: Bed) -> str:
    """Refuse a disk that is too small for what is still to be made, before anything is."""
    docker = engine.require()
    offline, stored, compiled = bed is Bed.OFFLINE, 0.0, 0.0
    if not docker.has_image(_wanted(config, bed).image):
        stored += GIGABYTES["node"]
        for name, module in pins.modules().items():
            if offline and name in nodeimage.MODULES and not golang.binaries(module).is_dir():
                compiled += GIGABYTES.get(name, GIGABYTES["module"])
    for image in images.made_here(tests=config.extras) if offline else ():
        if not docker.has_image(image.reference):
            stored += GIGABYTES["image"]
    if not kind.nodes(docker, config.name):
        stored += GIGABYTES["cluster"]
    if root := docker.data_root:
        artefacts.require_disk(stored, root)
    return artefacts.require_disk(compiled + stored)


def _pull_node(log: Log) -> str:
    """Pull kind's node image here, where its progress shows and nothing limits its time."""
    docker = engine.require()
    if docker.has_image(registry.NODE_IMAGE):
        return "nothing to do"
    with progress.Watch(log, progress.layers):
        log.run(docker.docker("pull", registry.NODE_IMAGE))
    return "pulled"


def _compile(module: pins.Module, log: Log) -> str:
    """Build a part of the node image; without need where the engine has the image already.

    kind's module is also a tool, and that needs its binary.
    """
    found = engine.running()
    if module.name != "kind" and found and found.has_image(nodeimage.reference()):
        return "nothing to do"
    return golang.build(module, log)


def _load(config: Config, bed: Bed, log: Log) -> str:
    if bed is Bed.REGISTRY:
        return "pulled when needed"
    docker = engine.require()
    nodeimage.forget_older(docker)
    names = [node.name for node in kind.nodes(docker, config.name)]
    references = [image.reference for image in images.made_here(tests=config.extras)]
    return images.load(docker, names, references, log)


def _wanted(config: Config, bed: Bed) -> kind.Wanted:
    return kind.Wanted(
        name=config.name,
        image=nodeimage.reference() if bed is Bed.OFFLINE else registry.NODE_IMAGE,
        nodes=config.nodes,
        bed=bed.value,
        disposable=config.name.startswith(TEST_PREFIX),
    )


def _bed(name: str) -> Choice:
    """The bed of a cluster: what is asked for, else what it was made on, else what is there.

    A registry that is away for an hour must not turn a cluster into something else.
    """
    record = kind.read_record(name) if name else None
    if record and not registry.wanted(os.environ):
        return Choice(Bed(record.bed), f"cluster {name} was made so")
    return registry.decide()


def _possible(name: str) -> Choice:
    """The bed of a cluster, or in one line why this machine cannot have it."""
    linux = sys.platform == "linux"
    if not linux and not engine.running():
        raise MachineError("no container engine answers", next="start Docker and run this again")
    choice = _bed(name)
    if choice.bed is Bed.OFFLINE and not linux:
        raise MachineError(
            f"images cannot be pulled ({choice.why}), and only Linux can build them",
            next=f"look after the network or its proxy, or set {registry.VARIABLE}=registry",
        )
    if choice.bed is Bed.OFFLINE and os.geteuid() != 0:
        raise MachineError(
            f"without a registry ({choice.why}) everything is built here, which needs root",
            next=f"run as root, or set {registry.VARIABLE}=registry if images can be pulled",
        )
    return choice


def _log(name: str) -> Log:
    return steps.Log(repo.logs() / f"{name}.log", lambda _text: None)
