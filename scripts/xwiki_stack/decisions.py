"""The mission's decisions: who takes each, what it changes, and what an environment says of it."""

from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import yaml

from xwiki_stack import intent, sizing
from xwiki_stack.intent import Cluster, Environment

STATES = ("open", "deferred", "decided")
"""open: somebody must still say; deferred: settled for now, to be asked again; decided."""


@dataclass(frozen=True)
class Decision:
    """One decision as it stands for an environment: one of STATES, and what was decided."""

    number: int
    what: str
    weight: str
    owner: str
    state: str
    value: str
    changes: str

    @property
    def blocks(self) -> bool:
        """Whether prod is refused because of it."""
        return self.weight == "blocking" and self.state == "open"


def table(env: str) -> list[Decision]:
    """All decisions, in the mission's order. Raises IntentError for an unknown environment."""
    environment = intent.load_environment(env)
    return table_of(environment, intent.load_cluster(environment.cluster))


def table_of(environment: Environment, cluster: Cluster) -> list[Decision]:
    """All decisions as an intent and its cluster answer them."""
    answers = _answers(environment, cluster)
    catalogue = yaml.safe_load(files("xwiki_stack").joinpath("decisions.yaml").read_text())
    return [_decision(item, answers) for item in catalogue]


def _decision(item: dict[str, Any], answers: dict[str, tuple[str, str]]) -> Decision:
    """An entry of the catalogue with its answer; a `state` there stands where no intent says."""
    state, value = answers[item["key"]] if item["key"] else (item["state"], item["value"])
    return Decision(
        item["id"], item["what"], item["weight"], item["owner"], state, value, item["changes"]
    )


def _answers(environment: Environment, cluster: Cluster) -> dict[str, tuple[str, str]]:
    """State and value by the key of the catalogue."""
    sizes = sizing.resources(environment)
    heap = sizing.heap(sizes["xwiki"].limit_memory).value
    limit = sizes["mysql"].limit_memory
    pool, connections = sizing.buffer_pool(limit).value, sizing.max_connections(limit).value
    target = environment.backups.get("target")
    objectives = [
        f"{word} {environment.backups.get(key)}"
        for word, key in (("RPO", "rpo"), ("RTO", "rto"), ("drills", "drills"))
    ]
    cloudflare = cluster.dns == "cloudflare"
    return {
        "mysql": _said(environment, 1, environment.mysql),
        "host": _said(
            environment, 3, environment.host, f", or domain in values/clusters/{cluster.name}.yaml"
        ),
        "backups.target": _said(
            environment,
            2,
            f"{target['bucket']}, {target['retentionDays']} days,"
            f" {len(environment.backups.get('recipients', []))} keys open"
            if isinstance(target, dict)
            else "",
        ),
        "backups.rpo": _said(environment, 4, ", ".join(objectives)),
        "size.xwiki": ("decided", f"heap {heap}, G1, pauses of 200 ms, no JMX"),
        "size.mysql": ("decided", f"buffer pool {pool}, {connections} connections"),
        "images": _said(
            environment,
            10,
            "both images pinned by digest",
            f"; `xwiki-stack images pin --env {environment.name}` asks the registries",
        ),
        "dns": ("decided", "Cloudflare") if cloudflare else ("deferred", f"{cluster.dns} for now"),
        "secrets": ("decided", "the platform's from the vault, the wikis' by SOPS")
        if cluster.secrets["backend"] == "vault"
        else ("deferred", "SOPS for now"),
        "logs": ("decided", "Loki")
        if cluster.logs == "loki"
        else ("deferred", "kubectl logs for now"),
        "nodes": ("decided", "active, preferring")
        if cluster.nodes > 1
        else ("decided", "prepared, inactive on one node"),
    }


def _said(
    environment: Environment, number: int, value: str, elsewhere: str = ""
) -> tuple[str, str]:
    """What a blocking decision came to, or the keys that it leaves open."""
    keys = [key for key, decision in environment.open_keys.items() if decision == number]
    if keys:
        return "open", f"write {', '.join(keys)} in the intent{elsewhere}"
    return "decided", value


def text(env: str) -> str:
    """The table for people: the blocking ones first, then what they wait for."""
    rows = table(env)
    blocking = [row for row in rows if row.blocks]
    lines = [f"Decisions for {env}:"]
    for weight in ("blocking", "important", "to clarify"):
        lines.append(f"{weight}:")
        for row in rows:
            if row.weight == weight:
                lines.append(f"  {row.number:>2} {row.what}")
                lines.append(
                    f"     {row.state}: {row.value}; {row.owner} decides; changes {row.changes}"
                )
    if blocking:
        numbers = ", ".join(str(row.number) for row in blocking)
        lines.append(f"{len(blocking)} blocking and open: {numbers}")
    return "\n".join(lines)
