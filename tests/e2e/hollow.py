"""Hollow charts in the place of those that no one can pull here: name and version, one ConfigMap.

Served as the real ones are, from a Helm repository or as OCI artifacts, so that the sources,
releases and waits of the tree are reconciled as written. What the real charts make of their values
is not seen by this.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.flux import ADDRESS, Handler

CHART = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
CONFIG = "application/vnd.cncf.helm.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"

NOTE = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: hollow-{{ .Release.Name }}
data:
  values: {{ toJson .Values | quote }}
"""
"""All that a hollow chart installs: the values that reached it."""


def packed(name: str, version: str) -> bytes:
    """A hollow chart as an archive."""
    files = {
        "Chart.yaml": yaml.safe_dump({"apiVersion": "v2", "name": name, "version": version}),
        "templates/note.yaml": NOTE,
    }
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz") as archive:
        for path, text in files.items():
            entry = tarfile.TarInfo(f"{name}/{path}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return sink.getvalue()


class Shelf(Handler):
    """A Helm repository and an OCI registry of what was put on it, by the path of a request."""

    def do_GET(self) -> None:  # noqa: N802 - the name that the library calls
        """What lies at the path."""
        kind, body = self.server.shelf.get(self.path, ("", b""))
        if kind:
            self.reply(200, kind, body, Docker_Content_Digest=digest(body))
        else:
            self.reply(404, "application/json", b'{"errors": [{"code": "NOT_FOUND"}]}')

    do_HEAD = do_GET  # noqa: N815 - the name that the library calls


def digest(body: bytes) -> str:
    """As registries name content."""
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def stand_in(
    component: Path, url: str, shelf: dict[str, tuple[str, bytes]]
) -> tuple[str, Mapping[str, Any]]:
    """Put a hollow chart on the shelf for a folder of flux/infra; its source, pointed there.

    Gives the name of the chart and the source.
    """
    source = yaml.safe_load((component / "source.yaml").read_text())
    spec = yaml.safe_load((component / "helmrelease.yaml").read_text())["spec"]
    own = source["spec"]
    if source["kind"] == "HelmRepository":
        name, version = spec["chart"]["spec"]["chart"], spec["chart"]["spec"]["version"]
        chart = packed(name, version)
        file = f"{name}-{version}.tgz"
        entry = {"apiVersion": "v2", "name": name, "version": version, "urls": [file]}
        index = {"apiVersion": "v1", "entries": {name: [{**entry, "digest": digest(chart)[7:]}]}}
        shelf[f"/{name}/index.yaml"] = ("application/yaml", yaml.safe_dump(index).encode())
        shelf[f"/{name}/{file}"] = ("application/gzip", chart)
        own["url"] = f"{url}/{name}"
        return name, source
    name, tag = own["url"].rpartition("/")[2], own["ref"]["tag"]
    chart, config = packed(name, tag), json.dumps({"name": name, "version": tag}).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": described(CONFIG, config),
        "layers": [described(CHART, chart)],
    }
    text = json.dumps(manifest).encode()
    shelf["/v2/"] = ("application/json", b"{}")
    for reference in (tag, digest(text)):
        shelf[f"/v2/{name}/manifests/{reference}"] = (MANIFEST, text)
    for body in (chart, config):
        shelf[f"/v2/{name}/blobs/{digest(body)}"] = ("application/octet-stream", body)
    own["url"] = f"oci://{ADDRESS}:{url.rpartition(':')[2]}/{name}"
    own["insecure"] = True
    return name, source


def described(kind: str, body: bytes) -> dict[str, object]:
    """How a manifest refers to content."""
    return {"mediaType": kind, "digest": digest(body), "size": len(body)}
