"""Signed documents, configuration, grants: what is accepted, and what is refused in words."""

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from xwiki_stack.backup import config, deadline, manifest, mysql, signature
from xwiki_stack.errors import DamagedError, IncompleteError, IntentError

KEY, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
TRUSTED = [signature.public_of(KEY)]
BODY = {"b": [1, "é"], "a": None}


def test_a_body_comes_back_and_is_written_in_one_way() -> None:
    sealed = signature.seal("set", BODY, KEY)
    assert signature.unseal("set", sealed, TRUSTED, "x") == BODY
    assert signature.canonical({"b": 1, "a": "é"}) == b'{"a":"\\u00e9","b":1}'
    assert sealed == signature.seal("set", dict(reversed(BODY.items())), KEY)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (signature.seal("evidence", BODY, KEY), "was changed after it was signed"),
        (signature.seal("set", {**BODY, "a": 1}, OTHER), "is not trusted here"),
        (signature.seal("set", BODY, KEY).replace(b"[1,", b"[2,"), "was changed after"),
        (b"", "is no signed document"),
        (b"[]", "is no signed document"),
        (b"\xff\xfe", "is no signed document"),
        (b'{"body":{},"key":"x","signature":"%%%"}', "is no signed document"),
        (b"[" * 5000, "is no signed document"),
    ],
)
def test_what_is_not_signed_by_a_trusted_key_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(DamagedError, match=words):
        signature.unseal("set", content, TRUSTED, "s3://b/k")


@pytest.mark.fault(19)
@pytest.mark.fault(22)
def test_every_byte_of_a_signed_document_counts() -> None:
    sealed = signature.seal("set", BODY, KEY)
    for place in range(len(sealed)):
        for bit in range(8):
            damaged = bytearray(sealed)
            damaged[place] ^= 1 << bit
            with pytest.raises(DamagedError):
                signature.unseal("set", bytes(damaged), TRUSTED, "x")
    for other in (sealed[:-1], sealed + b"\n", sealed.replace(b":", b": ", 1)):
        with pytest.raises(DamagedError, match="is not written as it was signed"):
            signature.unseal("set", other, TRUSTED, "x")


def test_a_key_of_another_kind_cannot_sign() -> None:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    pem = X25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    with pytest.raises(IntentError, match="is not ed25519"):
        signature.private_key(pem.decode())
    with pytest.raises(IntentError, match="is no unencrypted PEM"):
        signature.private_key("nonsense")


@pytest.mark.parametrize("name", ["", "x", "20261326T000000Z-00000000", "20261126T000000Z", "../x"])
def test_what_is_no_id_names_no_set(name: str) -> None:
    with pytest.raises(DamagedError, match="is no id of a set"):
        manifest.time_of(name)


def document() -> dict[str, Any]:
    return {
        "environment": "staging",
        "purpose": "staging",
        "store": {"bucket": "sets", "accessKeyFile": "/a", "secretKeyFile": "/b"},
        "keys": {},
    }


def written(tmp_path: Path, said: dict[str, Any]) -> Path:
    path = tmp_path / "backup.yaml"
    path.write_text(yaml.safe_dump(said))
    return path


def test_what_is_left_out_has_a_meaning(tmp_path: Path) -> None:
    known = config.load(written(tmp_path, document()))
    assert known.store.prefix == ""
    assert known.store.checksums == "when_required"
    assert known.limits.generation_sets == 7
    assert known.retention.opened == 7
    for need in (known.need_database, known.need_files, known.need_recipients,
                 known.need_signing_key, known.need_trusted):  # fmt: skip
        with pytest.raises(IntentError, match=r"is missing; allowed: .*; next: write it"):
            need()


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (["store", "buket"], "x", "did you mean 'bucket'?"),
        (["purpose"], "production", "purpose: 'production' is not allowed"),
        (["store", "endpoint"], "s3.example.org", "URL of any S3-compatible store"),
        (["keys", "recipients"], ["AGE-SECRET-KEY-1X"], "an age public key"),
        (["limits"], {"generationSets": 8}, "limits.generationSets"),
        (["retention"], {"opened": 0}, "retention.opened"),
        (["environment"], None, "environment"),
        (["store", "kmsKey"], "key", "store.kmsKey: is said without encryption by it"),
    ],
)
def test_a_mistake_is_named_with_its_place(
    tmp_path: Path, place: list[str], value: object, words: str
) -> None:
    said: Any = document()
    inner = said
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    with pytest.raises(IntentError) as refused:
        config.load(written(tmp_path, said))
    assert words in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(IntentError, match="cannot be read: No such file"):
        config.load(tmp_path / "none.yaml")


def test_the_schema_explains_every_key() -> None:
    schema = json.loads(Path(config.__file__).with_name("config.schema.json").read_text())

    def keys(inner: dict[str, Any]) -> int:
        count = 0
        for name, key in inner.get("properties", {}).items():
            assert "description" in key or key["type"] == "object", name
            count += 1 + keys(key)
        return count

    assert keys(schema) > 40


@pytest.mark.parametrize(
    ("scope", "schema", "fits"),
    [("*", "xwiki", True), ("xwiki", "xwiki", True), ("xwiki\\_a", "xwiki_a", True),
     ("xwiki\\_a", "xwikiba", False), ("xwiki_a", "xwikiba", True), ("xw%", "xwiki", True),
     ("xwiki", "xwiki2", False)],
)  # fmt: skip
def test_the_pattern_of_a_grant_is_mysqls(scope: str, schema: str, fits: bool) -> None:
    assert mysql._matches(scope, schema) is fits


def test_a_line_of_show_grants_is_read() -> None:
    line = "GRANT SELECT, LOCK TABLES, EVENT ON `xwiki\\_a`.* TO `backup`@`%`"
    assert mysql._grants(line) == [({"SELECT", "LOCK TABLES", "EVENT"}, "xwiki\\_a")]
    assert mysql._grants("GRANT ALL PRIVILEGES ON *.* TO `r`@`%`") == [({"ALL PRIVILEGES"}, "*")]
    assert mysql._grants("GRANT SELECT ON `x`.`t` TO `r`@`%`") == []
    assert mysql._grants("GRANT `role`@`%` TO `r`@`%`") == []


def test_time_that_is_over_is_said() -> None:
    with pytest.raises(IncompleteError, match="took longer than"), deadline.within(0.002):
        time.sleep(2)
    with deadline.within(1) as check:
        check()


def test_a_public_key_is_32_bytes() -> None:
    assert len(base64.b64decode(TRUSTED[0])) == 32
