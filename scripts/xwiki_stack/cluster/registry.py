"""Registries of container images: whether they can be pulled from here, and what a tag means.

Both by one request for a manifest; the first is asked once in a run.
"""

import hashlib
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any

import requests

from xwiki_stack import proc
from xwiki_stack.errors import IntentError, MachineError

VARIABLE = "XWIKI_STACK_BED"

NODE_IMAGE = (
    "docker.io/kindest/node:v1.36.1"
    "@sha256:3489c7674813ba5d8b1a9977baea8a6e553784dab7b84759d1014dbd78f7ebd5"
)
"""kind's node image for the newest 1.36 that it published with a digest known to us."""

PATIENCE = 10.0
"""Seconds for the manifest request: a registry that is slower is of no use for a gigabyte."""

REST = 2.0
"""Seconds before the one more try: a blip must not cost a quarter of an hour of building."""

ENDPOINTS = {"docker.io": "https://registry-1.docker.io"}
"""Where a registry's API is, if not at its name."""

MANIFESTS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)


class Bed(Enum):
    """Where images come from: pulled from their registries, or made here."""

    REGISTRY = "registry"
    OFFLINE = "offline"


@dataclass(frozen=True)
class Choice:
    """A bed, and why it is this one."""

    bed: Bed
    why: str

    @property
    def text(self) -> str:
        """Both in words, with the way to have it otherwise."""
        pulled = self.bed is Bed.REGISTRY
        other = Bed.OFFLINE if pulled else Bed.REGISTRY
        what = "pulled" if pulled else "built here without a registry"
        return f"{what}: {self.why} ({VARIABLE}={other.value} for the other way)"


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
    """The bed of this machine, see `decide`."""
    return decide().bed


def decide() -> Choice:
    """The bed of this machine: what the environment asks for, else what the registry answers."""
    asked = wanted(os.environ)
    return Choice(asked, f"{VARIABLE} says so") if asked else _answered()


@cache
def _answered() -> Choice:
    """Asked once per run: a registry that comes or goes must not split a run in two."""
    name = NODE_IMAGE.partition("/")[0]
    refused = refusal(NODE_IMAGE, ENDPOINTS[name])
    if refused:
        proc.pause(REST)
        refused = refusal(NODE_IMAGE, ENDPOINTS[name])
    if refused:
        return Choice(Bed.OFFLINE, f"{name} does not give kind's node image: {refused}")
    return Choice(Bed.REGISTRY, f"{name} answers")


def refusal(image: str, endpoint: str) -> str:
    """Why a registry does not serve an image that is named with its digest; '' when it does.

    Asked without the container engine: there may be none yet, and its mirrors, certificates and
    logins would not help, since the wiki's images are pulled by the cluster's nodes, which know
    none of them. HTTP(S)_PROXY is honoured. A HEAD does not count as a pull.
    """
    repository, digest = re.split("[:@]", image.partition("/")[2])[0], image.partition("@")[2]
    try:
        answer = _manifest("HEAD", endpoint, repository, digest)
    except requests.RequestException as failed:
        return type(failed).__name__
    if answer.status_code != requests.codes.ok:
        return f"HTTP {answer.status_code}"
    return _something_else(answer)


def digest_of(repository: str, tag: str) -> str:
    """The digest that a tag of an image means now: sha256 and 64 hexadecimal digits.

    repository: with its registry, docker.io/library/mysql. The digest is that of the bytes that
    came, not what a header says of them; a registry on this machine may speak plain HTTP. Raises
    IntentError for a tag or an image that the registry does not have, MachineError where no
    registry answers or where it asks for a login.
    """
    host, _, name = repository.partition("/")
    endpoint = ENDPOINTS.get(host) or f"{'http' if _here(host) else 'https'}://{host}"
    by_hand = "write the digest by hand, as `docker buildx imagetools inspect` shows it"
    try:
        answer = _manifest("GET", endpoint, name, tag)
    except (requests.RequestException, ValueError) as failed:
        raise MachineError(
            f"no registry answers at {host}: {type(failed).__name__}",
            where=f"{repository}:{tag}",
            next=f"try where it can be reached, or {by_hand}",
        ) from failed
    code = answer.status_code
    if code in (requests.codes.unauthorized, requests.codes.forbidden):
        raise MachineError(
            f"{host} asks for a login, or knows no such image; this command logs in nowhere",
            where=f"{repository}:{tag}",
            next=by_hand,
        )
    if code == requests.codes.not_found:
        raise IntentError(
            f"{host} has no such tag",
            where=f"{repository}:{tag}",
            next="correct the version in the intent, or the name of the image",
        )
    wrong = _something_else(answer) if code == requests.codes.ok else f"HTTP {code}"
    if wrong:
        raise MachineError(f"{host} gives no manifest: {wrong}", where=f"{repository}:{tag}")
    return f"sha256:{hashlib.sha256(answer.content).hexdigest()}"


def _manifest(method: str, endpoint: str, repository: str, reference: str) -> requests.Response:
    """What a registry answers to a question for a manifest, with an anonymous token if it wants.

    Raises requests' errors, or ValueError where a token is no JSON.
    """
    deadline = time.monotonic() + PATIENCE

    def ask(method: str, url: str, **more: Any) -> requests.Response:
        left = max(deadline - time.monotonic(), 0.01)
        return requests.request(method, url, timeout=left, allow_redirects=True, **more)

    url = f"{endpoint}/v2/{repository}/manifests/{reference}"
    headers = {"Accept": ",".join(MANIFESTS)}
    answer = ask(method, url, headers=headers)
    scheme, _, challenge = answer.headers.get("WWW-Authenticate", "").partition(" ")
    if answer.status_code == requests.codes.unauthorized and scheme.lower() == "bearer":
        where = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        given = ask("GET", where.pop("realm", ""), params=where).json()
        headers["Authorization"] = f"Bearer {given.get('token') or given.get('access_token')}"
        answer = ask(method, url, headers=headers)
    return answer


def _something_else(answer: requests.Response) -> str:
    """What an answer is if it is no manifest: some networks answer all with a page of theirs."""
    kind = answer.headers.get("Content-Type", "").partition(";")[0]
    return "" if kind in MANIFESTS else f"something else answers, with {kind or 'no content type'}"


def _here(host: str) -> bool:
    return host.partition(":")[0] in ("localhost", "127.0.0.1")
