"""Signed documents: canonical JSON in an envelope with an ed25519 signature.

    {"body": {...}, "key": "<fingerprint>", "signature": "<base64>"}

What is signed is the kind of the document and the body as canonical JSON: a record of evidence can
never pass for a manifest.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from xwiki_stack.errors import DamagedError, IntentError


def canonical(body: Any) -> bytes:
    """The one way to write a body: sorted keys, no spaces, ASCII, numbers only whole."""
    return json.dumps(
        body, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode()


def fingerprint(public: bytes) -> str:
    """The name of a public key: 16 hex digits of its SHA-256."""
    return hashlib.sha256(public).hexdigest()[:16]


def private_key(pem: str) -> Ed25519PrivateKey:
    """A signing key from PEM. Raises IntentError."""
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError) as error:
        raise IntentError(
            "the signing key is no unencrypted PEM",
            allowed="what `openssl genpkey -algorithm ed25519` writes",
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise IntentError("the signing key is not ed25519", next="make one with openssl genpkey")
    return key


def public_of(key: Ed25519PrivateKey) -> str:
    """A signing key's public half as `trusted` lists it: base64 of its 32 bytes."""
    return base64.b64encode(_raw(key)).decode()


def seal(kind: str, body: Any, key: Ed25519PrivateKey) -> bytes:
    """The envelope of a body, ready to be stored."""
    signed = key.sign(_message(kind, body))
    envelope = {
        "body": body,
        "key": fingerprint(_raw(key)),
        "signature": base64.b64encode(signed).decode(),
    }
    return _written(envelope)


def unseal(kind: str, content: bytes, trusted: Iterable[str], where: str) -> Any:
    """The body of an envelope, if a trusted key signed it as that kind.

    trusted: base64 of public keys. where: the object, for errors. Raises DamagedError.
    """
    try:
        envelope = json.loads(content)
        body, name = envelope["body"], str(envelope["key"])
        signed = base64.b64decode(envelope["signature"], validate=True)
        message = _message(kind, body)
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error) as error:
        raise DamagedError("is no signed document", where=where) from error
    keys = {fingerprint(raw): raw for raw in map(base64.b64decode, trusted)}
    if name not in keys:
        raise DamagedError(
            f"was signed by key {name[:16]!r}, which is not trusted here",
            where=where,
            allowed=", ".join(keys) or "none",
            next="add its public key to keys.trusted only if you know where it is from",
        )
    try:
        Ed25519PublicKey.from_public_bytes(keys[name]).verify(signed, message)
    except InvalidSignature as error:
        raise DamagedError(
            "its signature does not fit: it was changed after it was signed", where=where
        ) from error
    # One way to write a document, so that every byte of it counts: a base64 that means the same,
    # or a line break that is gone, is damage as well.
    whole = {"body": body, "key": name, "signature": base64.b64encode(signed).decode()}
    if content != _written(whole):
        raise DamagedError("is not written as it was signed: bytes of it changed", where=where)
    return body


def _written(envelope: Any) -> bytes:
    return canonical(envelope) + b"\n"


def _message(kind: str, body: Any) -> bytes:
    return f"xwiki-stack {kind}\n".encode() + canonical(body)


def _raw(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
