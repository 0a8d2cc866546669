"""What an operator holds outside of the cluster, so that it survives the cluster: a folder.

    keys/        private keys and the credentials of the bucket, each a file
    secrets/     the environment's Secrets as manifests, as Git has them (encrypted there)
    backup.yaml  configuration of `xwiki-stack backup`, for this desk
    values.yaml  values of the release beside those of the environment

`demo` and the end-to-end tests make one; a real operator has SOPS, a vault and a printed kit.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyrage
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from xwiki_stack import credentials, render
from xwiki_stack.backup import signature
from xwiki_stack.cluster.objectstore import BUCKET, Identity, ObjectStore
from xwiki_stack.kube import Kube, Manifest

BACKUPS = f"{render.RELEASE}-backups"
"""What the names of the chart's CronJobs and Secrets begin with."""

HOLDERS: dict[str, tuple[str, ...]] = {
    "writer": ("access-key", "secret-key", "signing-key", "index-identity"),
    "verifier": ("access-key", "secret-key", "signing-key"),
    "prune": ("access-key", "secret-key", "signing-key"),
    "drill": ("access-key", "secret-key", "identity", "signing-key"),
    "exporter": ("access-key", "secret-key"),
    "recovery": ("access-key", "secret-key", "identity"),
}
"""Who holds which keys: the contract of charts/backups."""


@dataclass(frozen=True)
class Desk:
    """A desk for one environment and its namespace, with keys of its own.

    identities: holders' own at the store, by HOLDERS; where none is named the store's owner's. At
    the desk itself there is only that of the recovery.
    """

    folder: Path
    store: ObjectStore
    environment: str
    namespace: str
    identities: Mapping[str, Identity] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make the keys that are not there yet, for nobody else's eyes."""
        for folder in (self.folder, self.keys, self.folder / "secrets"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        signing = Ed25519PrivateKey.generate()
        pem = signing.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        for name, text in {
            **self._at_store("recovery"),
            "signing-key": pem,
            "index-identity": str(pyrage.x25519.Identity.generate()),
            "identity": str(pyrage.x25519.Identity.generate()),
        }.items():
            if not (self.keys / name).exists():
                self._write(self.keys / name, text)

    @property
    def keys(self) -> Path:
        """The folder of private keys."""
        return self.folder / "keys"

    @property
    def recipient(self) -> str:
        """The public half of the key that opens sets."""
        identity = pyrage.x25519.Identity.from_str((self.keys / "identity").read_text())
        return str(identity.to_public())

    @property
    def trusted(self) -> str:
        """The public half of the key that signs them."""
        return signature.public_of(signature.private_key((self.keys / "signing-key").read_text()))

    def values(self) -> dict[str, Any]:
        """The charts' values of backups into this store, which is all that they reach outside."""
        store = {"endpoint": self.store.endpoint, "bucket": BUCKET, "prefix": self.environment}
        return {
            "backups": {
                "enabled": True,
                "environment": self.environment,
                "purpose": "local",
                "store": store,
                "keys": {"recipients": [self.recipient], "trusted": [self.trusted]},
            },
            "netpol": {
                "enabled": True,
                "switches": {"backups": True},
                "s3": {"port": self.store.port, "cidrs": [f"{self.store.address}/32"]},
            },
        }

    def secret(self, holder: str) -> Manifest:
        """The Secret of one of HOLDERS."""
        texts = {key: (self.keys / key).read_text() for key in HOLDERS[holder]}
        texts |= self._at_store(holder)
        data = {key: credentials.encode(text) for key, text in texts.items()}
        return credentials.manifest(f"{BACKUPS}-{holder}", self.namespace, data)

    def furnish(self, kube: Kube) -> None:
        """Make the namespace's Secrets, but for the one of the restore, and keep them here."""
        credentials.ensure(kube, self.namespace, render.RELEASE)
        for holder in HOLDERS:
            if holder != "recovery":
                kube.apply(self.secret(holder))
                self._keep(self.secret(holder))
        for component in credentials.KEYS:
            name = f"{render.RELEASE}-{component}"
            data = (kube.get("Secret", name, self.namespace) or {}).get("data", {})
            self._keep(credentials.manifest(name, self.namespace, data))

    def configure(self, web: str = "", password: str = "") -> Path:
        """Write the configuration of this desk; give its file.

        web: URL of the running wiki, with superadmin's password.
        """
        document: dict[str, Any] = {
            "environment": self.environment,
            "purpose": "local",
            "store": {
                "endpoint": self.store.endpoint,
                "bucket": BUCKET,
                "prefix": self.environment,
                "pathStyle": True,
                "accessKeyFile": str(self.keys / "access-key"),
                "secretKeyFile": str(self.keys / "secret-key"),
            },
            "keys": {
                "recipients": [self.recipient],
                "trusted": [self.trusted],
                "identityFiles": [str(self.keys / "identity")],
            },
        }
        if web:
            self._write(self.keys / "superadmin", password)
            document["web"] = {"url": web, "passwordFile": str(self.keys / "superadmin")}
        self._write(self.folder / "backup.yaml", yaml.safe_dump(document))
        return self.folder / "backup.yaml"

    def variables(self, values: list[render.Values], page: str) -> dict[str, str]:
        """The variables of docs/runbooks/restore-site.md for this desk.

        values: of the release, in their order. page: path of REST that is looked at in the end.
        """
        files = render.values_files(values, self.folder)
        return {
            "NAMESPACE": self.namespace,
            "RELEASE": render.RELEASE,
            "VALUES": ",".join(map(str, files)),
            "SECRETS": str(self.folder / "secrets"),
            "KEYS": str(self.keys),
            "CONFIG": str(self.configure()),
            "PAGE": page,
        }

    def _at_store(self, holder: str) -> dict[str, str]:
        identity = self.identities.get(holder, self.store.root)
        return {"access-key": identity.access, "secret-key": identity.secret}

    def _keep(self, manifest: Mapping[str, Any]) -> None:
        path = self.folder / "secrets" / f"{manifest['metadata']['name']}.yaml"
        self._write(path, json.dumps(manifest))

    @staticmethod
    def _write(path: Path, text: str) -> None:
        path.touch(0o600)
        path.write_text(text)
