"""kube-score, a scanner of others: a program of ci/tools.yaml."""

import json
from collections.abc import Mapping
from pathlib import Path

from xwiki_stack import proc
from xwiki_stack.cluster import programs
from xwiki_stack.errors import StackError
from xwiki_stack.scan.findings import Finding

KUBERNETES = "v1.36"
CRITICAL = 1
"""kube-score's grade; 5 is a warning, 7 and 10 are well."""


def ask(files: Mapping[str, Path]) -> tuple[int, list[Finding]]:
    """How many checks are not critical, and what the others say."""
    passed, findings = 0, []
    for environment, path in files.items():
        words = ["--output-format", "json", "--kubernetes-version", KUBERNETES]
        said = proc.run(
            [programs.tools().kube_score, "score", *words, path], check=False, timeout=60
        )
        try:
            document = json.loads(said.out) or []
        except ValueError as error:
            raise StackError(f"kube-score gave no JSON but {said.err[-200:]!r}") from error
        for item in document:
            for result in item["checks"]:
                if result["skipped"]:
                    continue
                if result["grade"] != CRITICAL:
                    passed += 1
                    continue
                name = f"{item['type_meta']['kind']}/{item['object_meta']['name']}"
                remarks = result["comments"] or []
                words_of = sorted({f"{x['path']}: {x['summary']}".strip(": ") for x in remarks})
                findings.append(
                    Finding(
                        "kube-score", result["check"]["id"], environment, name, "; ".join(words_of)
                    )
                )
    return passed, findings
