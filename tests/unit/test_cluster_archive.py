"""Images written without an engine: repeatable, and what was asked for."""

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

from xwiki_stack.cluster import archive


def _image(tmp_path: Path, content: str = "program") -> archive.Image:
    program = tmp_path / "program"
    program.write_text(content)
    return archive.Image(
        "example.org/thing:1",
        files={"/usr/local/bin/thing": program},
        links={"/bin/alias": "../usr/local/bin/thing"},
        folders=("/tmp",),  # noqa: S108 - a path in an image
        entrypoint=["/usr/local/bin/thing"],
    )


def _read(path: Path) -> tuple[dict[str, object], dict[str, object], list[tarfile.TarInfo], bytes]:
    with tarfile.open(path) as outer:

        def member(name: str) -> bytes:
            file = outer.extractfile(name)
            assert file is not None
            return file.read()

        (manifest,) = json.loads(member("manifest.json"))
        config = json.loads(member(manifest["Config"]))
        packed = member(manifest["Layers"][0])
    with tarfile.open(fileobj=io.BytesIO(packed)) as layer:
        entries = layer.getmembers()
    return manifest, config, entries, packed


def test_the_archive_holds_the_program_its_links_and_its_start(tmp_path: Path) -> None:
    target = tmp_path / "image.tar"
    archive.write(_image(tmp_path), target, "arm64")
    manifest, config, entries, _packed = _read(target)
    assert manifest["RepoTags"] == ["example.org/thing:1"]
    assert (config["architecture"], config["os"]) == ("arm64", "linux")
    assert config["config"]["Entrypoint"] == ["/usr/local/bin/thing"]  # type: ignore[index]
    found = {entry.name: entry for entry in entries}
    assert found["usr/local/bin/thing"].mode == 0o755
    assert found["bin/alias"].linkname == "../usr/local/bin/thing"
    assert found["tmp"].mode == 0o1777
    assert all((entry.uid, entry.gid, entry.mtime) == (0, 0, 0) for entry in entries)
    # A parent stands before what lies in it, or unpacking gives it the wrong owner.
    names = [entry.name for entry in entries]
    assert names.index("usr") < names.index("usr/local") < names.index("usr/local/bin/thing")


def test_the_layers_identity_is_that_of_its_unpacked_bytes(tmp_path: Path) -> None:
    target = tmp_path / "image.tar"
    archive.write(_image(tmp_path), target, "amd64")
    _manifest, config, _entries, packed = _read(target)
    digest = hashlib.sha256(gzip.decompress(packed)).hexdigest()
    assert config["rootfs"]["diff_ids"] == [f"sha256:{digest}"]  # type: ignore[index]


def test_the_same_content_gives_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    written = []
    for number, content in enumerate(["same", "same", "other"]):
        target = tmp_path / f"{number}.tar"
        archive.write(_image(tmp_path, content), target, "amd64")
        written.append(target.read_bytes())
    assert written[0] == written[1] != written[2]


def test_a_base_lies_beneath_and_is_left_alone(tmp_path: Path) -> None:
    base = tmp_path / "base.tar"
    with tarfile.open(base, "w") as writing:
        writing.add(tmp_path, arcname="lib", recursive=False)
    image = archive.Image("example.org/thing:1", links={"/bin/x": "y"}, base=base)
    target = tmp_path / "image.tar"
    archive.write(image, target, "amd64")
    manifest, _config, entries, _packed = _read(target)
    assert len(manifest["Layers"]) == 2  # type: ignore[arg-type]
    assert [entry.name for entry in entries] == ["lib"]
    assert base.exists()
