"""A store as many build it themselves: a certificate of their own authority, the bucket in the
host's name, a region that is not the default."""

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import S3SigV4Auth
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.backups.s3 import S3, served
from tests.backups.test_failures import failed
from tests.backups.test_sets import silent
from tests.backups.wiki import Wiki, command
from xwiki_stack.backup import restore
from xwiki_stack.cluster.objectstore import BUCKET

DOMAIN, REGION = "s3.store.test", "eu-west-9"


def authority(folder: Path) -> None:
    """Write ca.crt, and cert.pem with key.pem of the store that it signed."""
    now = datetime.now(UTC)

    def signed(name: str, issuer: str, key: Any, by: Any, **extension: Any) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder(
                x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]),
                x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
                key.public_key(),
                x509.random_serial_number(),
                now - timedelta(hours=1),
                now + timedelta(days=1),
            )
            .add_extension(x509.BasicConstraints(ca=name == issuer, path_length=None), True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in extension["of"]]),
                           False)
        )  # fmt: skip
        return builder.sign(by, hashes.SHA256())

    root, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca = signed("own authority", "own authority", root, root, of=["ca.store.test"])
    leaf = signed(DOMAIN, "own authority", own, root, of=[DOMAIN, f"*.{DOMAIN}"])
    (folder / "ca.crt").write_bytes(ca.public_bytes(Encoding.PEM))
    (folder / "cert.pem").write_bytes(leaf.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(
        own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )


@dataclass
class Own(S3):
    """The server, by the name that its certificate has."""

    @property
    def endpoint(self) -> str:
        return f"https://{DOMAIN}:{self.port}"

    def command(self) -> tuple[list[str | Path], dict[str, str]]:
        words, env = super().command()
        more: list[str | Path] = [
            "--cert", self.folder / "cert.pem", "--key", self.folder / "key.pem",
            "--virtual-domain", f"{DOMAIN}:{self.port}", "--region", REGION,
        ]  # fmt: skip
        return [words[0], *more, *words[1:]], env

    def _answers(self) -> bool:
        with socket.socket() as trial:
            return trial.connect_ex((self.address, self.port)) == 0


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names below the domain are found here; the names that were asked for."""
    asked: set[str] = set()
    real = socket.getaddrinfo

    def look(host: Any, *words: Any, **more: Any) -> Any:
        asked.add(str(host))
        return real("127.0.0.1" if str(host).endswith(DOMAIN) else host, *words, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look)
    return asked


@pytest.fixture
def signed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The scope of every signature: key, day, region."""
    scopes: list[str] = []
    real = S3SigV4Auth.credential_scope

    def note(auth: S3SigV4Auth, request: Any) -> str:
        scopes.append(f"key/{real(auth, request)}")
        return str(real(auth, request))

    monkeypatch.setattr(S3SigV4Auth, "credential_scope", note)
    return scopes


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    folder = tmp_path_factory.mktemp("own")
    authority(folder)
    with served(Own(folder)) as server:
        yield server


def test_a_wiki_comes_back_from_it(
    make: Callable[..., Wiki], own: S3, names: set[str], signed: list[str], tmp_path: Path
) -> None:
    wiki = make(s3=own)
    wiki.create()
    wiki.fill(rows=5)
    good = {
        "store__pathStyle": False,
        "store__region": REGION,
        "store__caFile": str(own.folder / "ca.crt"),
    }
    wiki.changes = good
    rows, tree = wiki.rows(), wiki.tree()
    assert command(wiki, "run").code == 0
    assert f"{BUCKET}.{DOMAIN}" in names, "the bucket stands in the host's name"
    assert DOMAIN not in names
    assert command(wiki, "verify", "--opened").code == 0
    wiki.destroy()
    restore.restore(wiki.loaded(account="root"), restore.Wish(), silent)
    assert (wiki.rows(), wiki.tree()) == (rows, tree)
    # The region of every request is the one that was said: the store would name another one.
    assert {said.split("/")[2] for said in signed} == {REGION}
    other = tmp_path / "other.crt"
    other.write_text("no certificate\n")
    for key, wrong, code, words in (
        ("store__caFile", None, 10, "certificate"),
        ("store__caFile", str(other), 2, f"{other}"),
        ("store__caFile", str(tmp_path / "absent"), 2, f"{tmp_path / 'absent'}"),
    ):
        wiki.changes = {**good, key: wrong}
        failed(wiki, code, words)
