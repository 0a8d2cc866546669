"""The sops program. Plain text goes to it and comes back through pipes, never by an argument.

The one exception is `edit`: an editor needs a file. It lies in memory where the system has such a
folder, in one of its owner alone, and is gone when the editor is.
"""

import json
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from xwiki_stack import cluster, proc, repo
from xwiki_stack.errors import DamagedError, MachineError
from xwiki_stack.secrets import rules

UNCHANGED = 200
NO_KEY = 128
"""Exit codes of sops (cmd/sops/codes)."""

Manifest = dict[str, Any]


def seal(root: Path, path: Path, item: Manifest) -> str:
    """The text of a sealed file for an object, to the recipients of the rule for `path`."""
    argv: list[str | Path] = ["encrypt", "--input-type", "yaml", "--output-type", "yaml"]
    plain = yaml.safe_dump(item, sort_keys=False)
    return _run(root, [*argv, "--filename-override", path], None, stdin=plain).out


def unseal(root: Path, path: Path, key: Path) -> Manifest:
    """The object in a sealed file, proven to be what was sealed.

    Raises DamagedError where a value or the seal over all of them was changed, MachineError where
    the key does not open it.
    """
    try:
        said = _run(root, ["decrypt", "--input-type", "yaml", "--output-type", "json", path], key)
    except proc.CommandFailed as failed:
        where = path.relative_to(root).as_posix()
        if failed.code == NO_KEY:
            raise MachineError(f"{key} does not open it", where=where) from failed
        raise DamagedError(
            "does not open: it was changed after it was sealed",
            where=where,
            next=f"take it from the last commit that opens: git log -- {where}",
        ) from failed
    found: Manifest = json.loads(said.out)
    return found


def with_value(root: Path, path: Path, key: Path, place: tuple[str, str], value: str) -> str:
    """The text of a sealed file with one more value; the others keep their bytes."""
    with tempfile.TemporaryDirectory(prefix="xwiki-stack-secrets-") as folder:
        copy = Path(folder) / path.name
        shutil.copyfile(path, copy)
        index = "".join(f"[{json.dumps(word)}]" for word in place)
        _run(root, ["set", "--value-stdin", copy, index], key, stdin=json.dumps(value))
        return copy.read_text()


def rotated(
    root: Path, path: Path, key: Path, add: Collection[str] = (), remove: Collection[str] = ()
) -> str:
    """The text of a sealed file under a new data key, to more or fewer recipients."""
    words: list[str | Path] = ["rotate"]
    words += [word for one in sorted(add) for word in ("--add-age", one)]
    words += [word for one in sorted(remove) for word in ("--rm-age", one)]
    return _run(root, [*words, path], key).out


def edit(root: Path, path: Path, key: Path) -> bool:
    """Open a sealed file in the user's editor; say whether it was changed.

    Raises CommandFailed when sops or the editor failed; the file is then as before.
    """
    before = path.read_bytes()
    with tempfile.TemporaryDirectory(prefix="xwiki-stack-secrets-", dir=repo.memory()) as folder:
        # What editors leave beside the file, swap files and backups, goes with the folder.
        env = {**_environment(key), "TMPDIR": folder}
        argv = _argv(root, ["edit", path])
        code = proc.attached(argv, env=env, cwd=root)
    if code not in (0, UNCHANGED):
        raise proc.CommandFailed([str(word) for word in argv], code, "")
    return path.read_bytes() != before


def _run(
    root: Path, words: list[str | Path], key: Path | None, stdin: str | None = None
) -> proc.Result:
    return proc.run(_argv(root, words), stdin=stdin, env=_environment(key), cwd=root)


def _argv(root: Path, words: list[str | Path]) -> list[str | Path]:
    return [cluster.tools().sops, "--config", root / rules.FILE, *words]


def _environment(key: Path | None) -> dict[str, str]:
    """Where the key is; the keys that sops finds by itself stay as the user set them."""
    return {"SOPS_AGE_KEY_FILE": str(key)} if key else {}
