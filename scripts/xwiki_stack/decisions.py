"""The mission's decisions: who takes each, what it changes, and what an environment says of it."""

from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import yaml

from xwiki_stack import intent


@dataclass(frozen=True)
class Decision:
    """One decision as it stands for an environment. `state` starts with open or decided."""

    number: int
    what: str
    weight: str
    owner: str
    state: str
    changes: str

    @property
    def blocks(self) -> bool:
        """Whether prod is refused because of it."""
        return self.weight == "blocking" and self.state.startswith("open")


def table(env: str) -> list[Decision]:
    """All decisions, in the mission's order. Raises IntentError for an unknown environment."""
    environment = intent.load_environment(env)
    answers: dict[str, Any] = {
        "mysql": environment.mysql,
        "host": environment.host,
        "size": environment.size,
        "images": environment.digests if len(environment.digests) == 2 else intent.UNDECIDED,
        "backups.target": environment.backups.get("target", intent.UNDECIDED),
        "backups.rpo": _objectives(environment.backups),
    }
    catalogue = yaml.safe_load(files("xwiki_stack").joinpath("decisions.yaml").read_text())
    return [
        Decision(
            item["id"],
            item["what"],
            item["weight"],
            item["owner"],
            _state(item["key"], answers[item["key"]]) if item["key"] else item["state"],
            item["changes"],
        )
        for item in catalogue
    ]


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
                lines.append(f"     {row.state}; {row.owner} decides; changes {row.changes}")
    if blocking:
        numbers = ", ".join(str(row.number) for row in blocking)
        lines.append(f"{len(blocking)} blocking and open: {numbers}")
    return "\n".join(lines)


def _objectives(backups: dict[str, Any]) -> str:
    rpo, rto = backups.get("rpo", intent.UNDECIDED), backups.get("rto", intent.UNDECIDED)
    return intent.UNDECIDED if intent.UNDECIDED in (rpo, rto) else f"RPO {rpo}, RTO {rto}"


def _state(key: str, value: Any) -> str:
    if value == intent.UNDECIDED:
        return f"open: write {key} in the intent"
    shown = value["bucket"] if isinstance(value, dict) and "bucket" in value else value
    shown = "both images pinned" if key == "images" else shown
    return f"decided: {shown}"
