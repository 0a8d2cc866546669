"""The real Renovate on a copy of this checkout: what it finds, and what it would do with it.

Nothing is asked of the network: every way out leads to a closed port.
"""

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from xwiki_stack import cluster, proc, repo

NOWHERE = "http://127.0.0.1:9"
"""A port that nothing listens on."""

HARMLESS = {"local-chart", "github-token-required"}
"""Reasons to leave a dependency alone that say nothing against its pattern: it is part of the
checkout, or GitHub is to be asked, for which hosted Renovate has its token and a test none."""

RULES = repo.ROOT / "tests" / "supply" / "rules.mjs"

Dependency = dict[str, Any]


def tracked() -> list[str]:
    """Every file of the checkout that Git holds or would take, by its relative name."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = proc.run(words, cwd=repo.ROOT).out.splitlines()
    return sorted(name for name in names if (repo.ROOT / name).is_file())


def copy(folder: Path) -> Path:
    """The checkout's files in a repository of their own."""
    for name in tracked():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(repo.ROOT / name, folder / name)
    return folder


def extract(folder: Path) -> list[Dependency]:
    """What Renovate finds in a checkout: each dependency with its `manager` and its `files`.

    What it saw and could not make out (no registry, no version) is not among them.
    """
    report = folder.with_name(f"{folder.name}-report.json")
    proc.run(["git", "init", "--quiet"], cwd=folder)
    proc.run(["git", "add", "--all"], cwd=folder)
    words = ["--platform=local", "--dry-run=extract"]
    proc.run([*cluster.npm_command("renovate"), *words], cwd=folder, env=_environment(report))
    (repository,) = json.loads(report.read_text())["repositories"].values()
    return [
        {**dep, "manager": manager, "files": [file["packageFile"], *file.get("lockFiles", [])]}
        for manager, files in repository["packageFiles"].items()
        for file in files
        for dep in file["deps"]
        if dep.get("skipReason") in {None, *HARMLESS}
    ]


def validate(file: Path) -> proc.Result:
    """Renovate's own judgement of a configuration."""
    words = [*cluster.npm_command("renovate", "config-validator"), "--strict", "--no-global", file]
    return proc.run(words, cwd=file.parent, env=_environment(None), check=False)


def decisions(cases: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What our configuration says of updates, by Renovate's own rule code.

    A case is a dependency with `updateType`; its answer has automerge, labels and so on.
    """
    node, _script = cluster.npm_command("renovate")
    words = [node, RULES, cluster.npm_package("renovate"), repo.ROOT / "renovate.json5"]
    said = proc.run(words, stdin=json.dumps(list(cases)), env=_environment(None)).out
    answers: list[dict[str, Any]] = json.loads(said)
    return answers


def _environment(report: Path | None) -> dict[str, str]:
    shut = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), NOWHERE)
    env = {**shut, "LOG_LEVEL": "warn", "RENOVATE_CONFIG_FILE": ""}
    if report:
        base = report.with_suffix("")
        env |= {
            "RENOVATE_REPORT_TYPE": "file",
            "RENOVATE_REPORT_PATH": str(report),
            "RENOVATE_BASE_DIR": str(base),
        }
    return env
