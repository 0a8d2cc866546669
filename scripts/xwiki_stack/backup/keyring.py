"""The keys that a run has: parsed once, before any work, so that a bad one costs nothing."""

import hashlib
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from xwiki_stack.backup import signature, stream
from xwiki_stack.backup.config import Config, secret
from xwiki_stack.errors import IntentError


def recipients(config: Config) -> list[Any]:
    """Who can open packs and dumps. Raises IntentError."""
    return [stream.recipient(text) for text in config.need_recipients()]


def fingerprints(config: Config) -> list[str]:
    """Short names of the recipients: 16 hex digits of the SHA-256 of each public key."""
    return [hashlib.sha256(key.encode()).hexdigest()[:16] for key in config.need_recipients()]


def writer(config: Config) -> Any | None:
    """The writer's own identity, which opens indexes; None where there is none."""
    path = config.keys.index_identity_file
    if path is None:
        return None
    return stream.identity(secret(path, config, "keys.indexIdentityFile"), str(path))


def openers(config: Config) -> list[Any]:
    """Identities that open sets. Raises IntentError where none is named."""
    if not config.keys.identity_files:
        raise IntentError(
            "is missing, and without a key no set opens",
            where=f"{config.path}: keys.identityFiles",
            allowed="files with age identities",
            next="name the file of the recovery key, or of the drill's",
        )
    return [
        stream.identity(secret(path, config, "keys.identityFiles"), str(path))
        for path in config.keys.identity_files
    ]


def signing(config: Config) -> Ed25519PrivateKey:
    """The key that signs what this run writes; its public half must be trusted here."""
    key = signature.private_key(config.need_signing_key())
    if signature.public_of(key) not in config.need_trusted():
        raise IntentError(
            "does not hold the public half of keys.signingKeyFile",
            where=f"{config.path}: keys.trusted",
            next=f"add {signature.public_of(key)}",
        )
    return key
