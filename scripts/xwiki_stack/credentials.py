"""The Secrets of a local environment: made once, at random, never shown and never replaced.

Staging and production get theirs from SOPS or External Secrets; the charts only name them.
"""

import base64
import secrets
import string

from xwiki_stack.kube import Kube, Manifest

ALPHABET = string.ascii_letters + string.digits
"""Safe in XML, shell, SQL and URLs alike (XWiki's entrypoint breaks on `&` and `<`)."""

PASSWORD_LENGTH = 32
KEY_LENGTH = 32
"""XWiki's cookie keys are 32 characters."""

KEYS: dict[str, dict[str, int]] = {
    "mysql": {
        "root-password": PASSWORD_LENGTH,
        "xwiki-password": PASSWORD_LENGTH,
        "backup-password": PASSWORD_LENGTH,
        "monitor-password": PASSWORD_LENGTH,
    },
    "xwiki": {
        "superadmin-password": PASSWORD_LENGTH,
        "admin-password": PASSWORD_LENGTH,
        "validation-key": KEY_LENGTH,
        "encryption-key": KEY_LENGTH,
    },
}
"""Component to Secret keys to length in characters: the contract of the charts."""


def ensure(kube: Kube, namespace: str, release: str) -> list[str]:
    """Make what is missing of both Secrets; give the names of those that were touched.

    A key that exists is never changed, so that a second run locks nobody out.
    """
    touched = []
    for component, lengths in KEYS.items():
        name = f"{release}-{component}"
        present = (kube.get("Secret", name, namespace) or {}).get("data", {})
        missing = {key: length for key, length in lengths.items() if not present.get(key)}
        if missing:
            made = {key: encode(random(length)) for key, length in missing.items()}
            # Server-side apply drops what we once set and no longer name: name all.
            kube.apply(manifest(name, namespace, {**present, **made}))
            touched.append(name)
    return touched


def manifest(name: str, namespace: str, data: dict[str, str]) -> Manifest:
    """A Secret with these Base64 values."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/part-of": "xwiki-stack"},
        },
        "type": "Opaque",
        "data": data,
    }


def encode(value: str) -> str:
    """A value as Secrets hold it."""
    return base64.b64encode(value.encode()).decode()


def read(kube: Kube, namespace: str, release: str, component: str, key: str) -> str | None:
    """One value in clear text, or None if the Secret or its key is not there."""
    secret = kube.get("Secret", f"{release}-{component}", namespace) or {}
    value = secret.get("data", {}).get(key)
    return base64.b64decode(value).decode() if value else None


def random(length: int) -> str:
    """A password of `length` characters of ALPHABET from the system's random source."""
    return "".join(secrets.choice(ALPHABET) for _ in range(length))
