"""Whether container images can be pulled here: asked once, by one image-manifest request."""

import os
from collections.abc import Mapping
from enum import Enum
from functools import cache

from xwiki_stack import proc
from xwiki_stack.cluster import engine
from xwiki_stack.errors import IntentError, MachineError

VARIABLE = "XWIKI_STACK_BED"

NODE_IMAGE = (
    "docker.io/kindest/node:v1.36.1"
    "@sha256:3489c7674813ba5d8b1a9977baea8a6e553784dab7b84759d1014dbd78f7ebd5"
)
"""kind's node image for the newest 1.36 that it published with a digest known to us."""

PATIENCE = 10.0
"""Seconds for the manifest request: a registry that is slower is of no use for a gigabyte."""


class Bed(Enum):
    """Where images come from: pulled from their registries, or made here."""

    REGISTRY = "registry"
    OFFLINE = "offline"


def wanted(environment: Mapping[str, str]) -> Bed | None:
    """What `XWIKI_STACK_BED` asks for; None for auto, which is the default.

    Raises IntentError for any other word.
    """
    word = environment.get(VARIABLE, "auto")
    if word == "auto":
        return None
    try:
        return Bed(word)
    except ValueError as unknown:
        raise IntentError(
            f"`{word}` is no bed", where=VARIABLE, allowed="auto, offline, registry"
        ) from unknown


def choose() -> Bed:
    """The bed of this machine: what the environment asks for, else what the registry answers.

    The request goes through the docker client, with its own configuration; without a client
    there is nothing to pull with, so the bed is the offline one.
    """
    asked = wanted(os.environ)
    if asked:
        return asked
    if not proc.which("docker"):
        return Bed.OFFLINE
    return decide(_manifest_code())


def decide(code: int | None) -> Bed:
    """From the exit code of the manifest request (None: no answer in time) to the bed."""
    return Bed.REGISTRY if code == 0 else Bed.OFFLINE


@cache
def _manifest_code() -> int | None:
    """Asked once per run: an unreachable registry costs PATIENCE each time."""
    found = engine.running()
    docker = found or engine.Engine("")
    argv = docker.docker("manifest", "inspect", NODE_IMAGE)
    try:
        return proc.run(argv, check=False, timeout=PATIENCE).code
    except MachineError:
        return None
