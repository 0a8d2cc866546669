"""Container images written without an engine: a `docker save` archive from files and programs.

The same input gives the same bytes, so an image's identity follows from its content. Read by
`docker load` and by `ctr images import`.
"""

import gzip
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Image:
    """What goes into an image. `files`: path in the image -> file on disk, all executable.

    `links`: path in the image -> target. `base`: a tar of a file system to lie beneath.
    """

    reference: str
    files: Mapping[str, Path] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    folders: Sequence[str] = ()
    entrypoint: Sequence[str] = ()
    base: Path | None = None
    user: str = ""


def write(image: Image, target: Path, architecture: str) -> None:
    """Write the archive of one image for Linux on `architecture` (Go's word)."""
    with tarfile.open(target, "w") as archive:
        layers: list[tuple[str, str]] = []
        for number, source in enumerate(_layers(image, target)):
            layer = f"layer-{number}.tar.gz"
            layers.append((layer, _sha256(source)))
            packed = target.with_suffix(".packed")
            _compress(source, packed)
            archive.add(packed, arcname=layer, filter=_plain)
            packed.unlink()
            if source != image.base:
                source.unlink()
        config = json.dumps(
            {
                "architecture": architecture,
                "os": "linux",
                "config": {
                    "Entrypoint": list(image.entrypoint),
                    "Env": [f"PATH={SEARCH}"],
                    "User": image.user,
                    "WorkingDir": "/",
                },
                "rootfs": {
                    "type": "layers",
                    "diff_ids": [f"sha256:{digest}" for _name, digest in layers],
                },
                "history": [{"created_by": "xwiki-stack"} for _ in layers],
            },
            sort_keys=True,
        ).encode()
        name = f"{hashlib.sha256(config).hexdigest()}.json"
        _add_bytes(archive, name, config)
        manifest = [
            {
                "Config": name,
                "RepoTags": [image.reference],
                "Layers": [layer for layer, _digest in layers],
            }
        ]
        _add_bytes(archive, "manifest.json", json.dumps(manifest).encode())


def _layers(image: Image, beside: Path) -> list[Path]:
    layers = [image.base] if image.base else []
    if image.files or image.links or image.folders:
        own = beside.with_suffix(".layer")
        with tarfile.open(own, "w") as layer:
            for path in _parents(image):
                entry = tarfile.TarInfo(path)
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                layer.addfile(entry)
            for path in image.folders:
                entry = tarfile.TarInfo(path.strip("/"))
                entry.type, entry.mode = tarfile.DIRTYPE, 0o1777
                layer.addfile(entry)
            for path, source in sorted(image.files.items()):
                layer.add(source.resolve(), arcname=path.strip("/"), filter=_program)
            for path, to in sorted(image.links.items()):
                entry = tarfile.TarInfo(path.strip("/"))
                entry.type, entry.linkname = tarfile.SYMTYPE, to
                layer.addfile(entry)
        layers.append(own)
    return layers


def _parents(image: Image) -> list[str]:
    folders = {
        str(parent)
        for path in (*image.files, *image.links, *image.folders)
        for parent in Path(path.strip("/")).parents
        if str(parent) != "."
    }
    return sorted(folders - {path.strip("/") for path in image.folders})


def _program(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.mode = 0o755
    return _plain(entry)


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.mtime = entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def _add_bytes(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def _compress(source: Path, target: Path) -> None:
    """gzip, at the level where a second more buys little; without time or name, so repeatable."""
    with (
        source.open("rb") as reading,
        target.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as writing,
    ):
        shutil.copyfileobj(reading, writing, 1 << 20)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
