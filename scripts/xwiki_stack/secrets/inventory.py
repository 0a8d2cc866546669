"""Which Secrets a place must have, and which of their values this stack may invent.

Of a platform: the list in `gitops`, which tests compare with the tree. Of a wiki: what the pods of
its chart read with the committed values, so that a chart that reads one more asks for it here.
"""

from collections.abc import Iterator
from pathlib import Path

from xwiki_stack import credentials, gitops, policy, render
from xwiki_stack.gitops import Secret
from xwiki_stack.render import RELEASE, Manifest
from xwiki_stack.secrets import keys
from xwiki_stack.secrets.rules import Place


def wanted(root: Path, place: Place) -> list[Secret]:
    """The Secrets that a place must have; nothing of what a vault gives.

    Raises StackError where the environment's generated values are missing.
    """
    if place.environment is None:
        return gitops.secrets(place.cluster) if place.cluster.secrets["backend"] == "sops" else []
    env = place.environment
    values = root / "values" / "generated" / env.name / f"{RELEASE}.yaml"
    objects = render.helm_template(values=[values], namespace=env.namespace)
    return of_wiki(objects, env.namespace, f"{gitops.SOURCE}-{env.name}")


def of_wiki(objects: list[Manifest], namespace: str, part: str) -> list[Secret]:
    """The Secrets that the pods of a release read, with their keys, in the order of their names.

    What only a suspended CronJob reads (the key that opens backups) is made for the hour in which
    somebody runs it, and is never in Git.
    """
    known = {f"{RELEASE}-{component}": [*own] for component, own in credentials.KEYS.items()}
    found: dict[str, list[str]] = {}
    readers: dict[str, list[str]] = {}
    for item in objects:
        if item["kind"] == "CronJob" and item["spec"].get("suspend") is True:
            continue
        for name, key in _read(item):
            own = found.setdefault(name, list(known.get(name, [])))
            own += [key] if key and key not in own else []
            who = f"{item['kind']} {item['metadata']['name']}"
            readers.setdefault(name, []).append(who)
    return [
        Secret(namespace, name, tuple(own), part, ", ".join(dict.fromkeys(readers[name])))
        for name, own in sorted(found.items())
    ]


def invented(secret: Secret, key: str) -> str | None:
    """A value that nobody has to know beforehand, made now; None for what only a person can say."""
    component = secret.name.removeprefix(f"{RELEASE}-")
    if length := credentials.KEYS.get(component, {}).get(key):
        return credentials.random(length)
    if (secret.name, key) == ("grafana-admin", "admin-user"):
        return "admin"
    if (secret.name, key) == ("grafana-admin", "admin-password"):
        return credentials.random(credentials.PASSWORD_LENGTH)
    if key == "index-identity":  # opens nothing but the indexes that its holder writes
        return keys.identity()
    return None


def manifest(secret: Secret, values: dict[str, str]) -> Manifest:
    """The object, with its values as people edit them."""
    plain = credentials.manifest(secret.name, secret.namespace, {})
    del plain["data"]
    return {**plain, "stringData": values}


def _read(item: Manifest) -> Iterator[tuple[str, str]]:
    """Name and key of every Secret that the pods of an object read; key "" for all that it has."""
    for container in policy.containers_of(item):
        for entry in container.get("env", []):
            ref = entry.get("valueFrom", {}).get("secretKeyRef")
            if ref and not ref.get("optional"):
                yield ref["name"], ref["key"]
        for entry in container.get("envFrom", []):
            if ref := entry.get("secretRef"):
                yield ref["name"], ""
    for volume in policy.pod_of(item).get("spec", {}).get("volumes", []):
        sources = [volume, *volume.get("projected", {}).get("sources", [])]
        for source in sources:
            if (secret := source.get("secret")) and not secret.get("optional"):
                name = secret.get("secretName") or secret["name"]
                for entry in secret.get("items") or [{"key": ""}]:
                    yield name, entry["key"]
