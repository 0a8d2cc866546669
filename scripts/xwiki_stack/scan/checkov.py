"""checkov, a scanner of others: a Python package, in an environment of its own."""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from xwiki_stack import proc, repo
from xwiki_stack.cluster import artefacts, machine
from xwiki_stack.errors import IntentError, StackError
from xwiki_stack.scan.findings import Finding
from xwiki_stack.steps import Log

LOCK = repo.ROOT / "requirements" / "checkov.txt"

OFFLINE = {
    "CKV_SKIP_PACKAGE_UPDATE_CHECK": "true",
    "LOG_LEVEL": "ERROR",
    "BC_API_KEY": "",
    # Whatever it may ask in spite of its flags is asked here, where nobody listens.
    **dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9"),
}
"""What keeps checkov at home."""


def ask(files: Mapping[str, Path]) -> tuple[int, list[Finding]]:
    """How many checks passed, and what the others say. Raises StackError if it read too little."""
    passed, findings = 0, []
    for environment, path in files.items():
        said = proc.run(
            command(path),
            env=OFFLINE,
            cwd=path.parent,
            check=False,
            timeout=300,
        )
        try:
            document = json.loads(said.out)
        except ValueError as error:
            raise StackError(
                f"checkov gave no JSON but {(said.err or said.out)[-200:]!r}"
            ) from error
        if "summary" not in document:  # {"passed": 0, ...}: it saw nothing that it knows
            continue
        if document["summary"]["parsing_errors"]:
            raise StackError("checkov could not read the objects", where=environment)
        passed += document["summary"]["passed"]
        findings += [
            Finding(
                "checkov", item["check_id"], environment, _kind_and_name(item["resource"]),
                item["check_name"],
            )
            for item in document["results"]["failed_checks"]
        ]  # fmt: skip
    return passed, findings


def command(path: Path) -> list[str | Path]:
    """How checkov is asked about a file of objects."""
    words = ["--framework", "kubernetes", "--output", "json", "--compact", "--quiet"]
    return [python(), "-m", "checkov.main", "--file", path, "--skip-download", *words]


def install(log: Log) -> str:
    """Make checkov's own Python environment unless it is there: it pins what others need newer."""

    def fill(folder: Path) -> None:
        log.say("downloading packages")
        log.run([sys.executable, "-m", "venv", folder])
        # By the interpreter: scripts of an environment name the folder that it was made in.
        interpreter = folder / "bin" / "python"
        words = ["install", "--quiet", "--require-hashes", "--no-deps", "--no-cache-dir"]
        log.run([interpreter, "-m", "pip", "--disable-pip-version-check", *words, "-r", LOCK])

    return artefacts.make("checkov", _key(), fill, log)


def version() -> str:
    """The version that the lock pins."""
    found = re.search(r"^checkov==(\S+)", LOCK.read_text(), re.M)
    if not found:
        raise IntentError("pins no checkov", where=repo.relative(LOCK))
    return found[1]


def python() -> Path:
    """Its interpreter, once it is installed."""
    return artefacts.place("checkov", _key()) / "bin" / "python"


def _key() -> str:
    return repo.digest(LOCK, sys.version.split()[0], json.dumps(machine.go_platform()))


def _kind_and_name(resource: str) -> str:
    """checkov's `Deployment.namespace.name` as ours; it adds all labels to the name of a pod."""
    kind, _namespace, name = resource.split(".")[:3]
    return f"{kind}/{name}"
