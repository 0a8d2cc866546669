"""A real registry for tests: Debian's docker-registry on an address of this machine."""

import hashlib
import json
import os
import socket
from pathlib import Path

import pytest
import requests

from tests.e2e.patience import eventually
from xwiki_stack import proc, repo, steps
from xwiki_stack.cluster import artefacts

PACKAGE = "docker-registry"

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def program() -> Path:
    """The registry's binary, out of its package; nothing is installed."""
    if not proc.which("apt-get"):
        if os.environ.get("CI"):
            pytest.fail(f"no apt-get here to bring {PACKAGE}")
        pytest.skip(
            f"UNPROVEN: no apt-get here to bring {PACKAGE}; it runs on Debian, and must in CI"
        )
    log = steps.Log(repo.logs() / f"{PACKAGE}.log", lambda _text: None)

    def unpack(folder: Path) -> None:
        # Root's apt would drop to a user who may not write here.
        words = ["apt-get", "--option", "APT::Sandbox::User=root", "download", PACKAGE]
        log.run(words, cwd=folder)
        (package,) = folder.glob("*.deb")
        log.run(["dpkg-deb", "--extract", package, folder])
        package.unlink()

    key = repo.digest(PACKAGE, "1")
    artefacts.make(PACKAGE, key, unpack, log)
    return artefacts.place(PACKAGE, key) / "usr" / "bin" / PACKAGE


class Server:
    """A registry on a folder. `login`: it asks for a name and a password that nobody has."""

    def __init__(self, folder: Path, *, login: bool = False) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.host = f"127.0.0.1:{free.getsockname()[1]}"
        self._pid = folder / "pid"
        config: dict[str, object] = {
            "version": "0.1",
            "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
            "http": {"addr": self.host},
        }
        if login:
            (folder / "htpasswd").write_text("")
            config["auth"] = {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}
        (folder / "config.json").write_text(json.dumps(config))
        proc.spawn(
            [program(), "serve", folder / "config.json"],
            log=folder / "log",
            pid_file=self._pid,
        )
        eventually(self._answers, seconds=20, pause=0.1)

    def _answers(self) -> bool:
        answer = requests.get(f"{self.url}/v2/", timeout=2)
        assert answer.status_code in (200, 401)
        return True

    @property
    def url(self) -> str:
        """Of its API."""
        return f"http://{self.host}"

    def push(self, name: str, tag: str, comment: str = "") -> str:
        """An image without layers; its digest."""
        config = self._blob(name, json.dumps({"comment": comment}).encode())
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **config},
            "layers": [],
        }
        data = json.dumps(manifest).encode()
        url = f"{self.url}/v2/{name}/manifests/{tag}"
        put = requests.put(url, data=data, headers={"Content-Type": MANIFEST}, timeout=10)
        put.raise_for_status()
        return str(put.headers["Docker-Content-Digest"])

    def _blob(self, name: str, data: bytes) -> dict[str, object]:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        start = requests.post(f"{self.url}/v2/{name}/blobs/uploads/", timeout=10)
        start.raise_for_status()
        where = start.headers["Location"]
        requests.put(where, params={"digest": digest}, data=data, timeout=10).raise_for_status()
        return {"digest": digest, "size": len(data)}

    def stop(self) -> None:
        """End it."""
        proc.end(self._pid)
