"""One kind cluster: made, recognised as ours, started again, stopped, deleted.

A cluster is ours when the record in its state folder names its control-plane container and the
engine that holds it. What is not ours is never touched; what holds the user's pages is never
destroyed, and never forgotten, by anything but `delete`.
"""

import json
import shlex
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

import yaml

from xwiki_stack import proc, repo
from xwiki_stack.cluster import artefacts, engine, machine, programs
from xwiki_stack.errors import MachineError, RefusedError, UnhealthyError
from xwiki_stack.steps import Log

POD_SUBNET = "10.244.0.0/16"
"""kind's default, written out because ci/bed/node names it too."""

LABEL = "xwiki-stack.local/cluster"
"""Node label of every cluster of ours, for whoever meets one."""

CHECKOUT = "checkout"
"""File of a cluster's state folder that names the checkout which made it. Beside the record, not in
it, so that an older checkout still reads that."""

CREATE_SECONDS = 240.0
START_SECONDS = 240.0


@dataclass(frozen=True)
class Wanted:
    """What a cluster is to be. `disposable`: it may be made anew when it is anything else."""

    name: str
    image: str
    nodes: int
    bed: str
    disposable: bool


@dataclass(frozen=True)
class Record:
    """What we noted when we made a cluster.

    control_plane: container id, '' while creating. engine, host: the id that the engine gave
    itself ('' in records of before it was noted) and how we reached it (engine.Engine.host).
    """

    image: str
    nodes: int
    bed: str
    control_plane: str
    engine: str = ""
    host: str = ""


@dataclass(frozen=True)
class Node:
    """A node container."""

    id: str
    name: str
    state: str
    role: str


class Action(Enum):
    """What is to be done with a cluster."""

    CREATE = "create"
    RECREATE = "recreate"
    START = "start"
    KEEP = "keep"


def decide(found: Sequence[Node], record: Record | None, wanted: Wanted) -> Action:
    """What to do with a cluster that is ours, from what exists, what we noted and what is wanted.

    Raises RefusedError for one that would have to be made anew although it may hold pages, or held
    pages that are gone: an empty wiki in its place must be somebody's decision.
    """
    if record is None or not record.control_plane:
        return Action.RECREATE if found else Action.CREATE
    if not found and not wanted.disposable:
        raise RefusedError(
            f"the node containers of cluster {wanted.name} were removed, and its pages with them",
            next="`make delete` forgets the cluster, `make up` makes it anew, without those pages",
        )
    if not found:
        return Action.CREATE
    same = (record.nodes, record.bed) == (wanted.nodes, wanted.bed)
    if wanted.disposable and not (same and record.image == wanted.image):
        return Action.RECREATE
    if not same:
        raise RefusedError(
            f"cluster {wanted.name} has {record.nodes} node(s) on the {record.bed} bed, "
            f"{wanted.nodes} on the {wanted.bed} bed are wanted",
            next="`make delete` removes it with every page in it, `make up` makes it anew",
        )
    return Action.KEEP if all(node.state == "running" for node in found) else Action.START


def refuse_foreign(name: str) -> None:
    """Raise RefusedError at once where `ensure` would do so at its end; nothing is touched.

    Where no engine answers, and none has to, there is nothing to see yet.
    """
    record = read_record(name)
    if docker := engine.running():
        _found(docker, name, record)
    elif record and record.engine and not record.host:
        raise MachineError(
            f"cluster {name} lies in this machine's container engine, which does not answer",
            next="start that engine (Docker), then run this again",
        )


def _found(docker: engine.Engine, name: str, record: Record | None) -> list[Node]:
    """The node containers of a cluster, which are ours or none at all.

    Raises RefusedError for containers that are not what we noted, and when what we noted lies in
    another engine than the one that answers: to make the cluster anew would orphan its pages.
    """
    found = nodes(docker, name)
    complete = record is not None and bool(record.control_plane)
    if record and complete:
        _refuse_elsewhere(docker, name, record, found)
    if found and (
        not record or (complete and record.control_plane not in {node.id for node in found})
    ):
        remove = docker.docker("rm", "--force", "--volumes", *(node.name for node in found))
        raise RefusedError(
            f"a kind cluster named {name} exists and was not made by this tool from this cache",
            next="choose another name with XWIKI_STACK_CLUSTER, or remove it yourself, with all "
            f"that is in it: {shlex.join(map(str, remove))}",
        )
    return found


def _refuse_elsewhere(
    docker: engine.Engine, name: str, record: Record, found: Sequence[Node]
) -> None:
    answering = _identity(docker)
    same = record.engine == answering if record.engine and answering else bool(found)
    if same:
        return
    made = _words(record.host, record.engine) if record.engine else "an engine that is not noted"
    raise RefusedError(
        f"cluster {name} lies in {made}, and what answers is {_words(docker.host, answering)}",
        next="stop the one that answers (`xwiki-stack down` ends this tool's own once no cluster "
        "runs on it), start the other one and run this again; if that is gone for good, and the "
        "pages with it: rm -r "
        f"{shlex.quote(str(repo.state(name)))}",
    )


def _words(host: str, identity: str) -> str:
    whose = "the engine of this tool" if host else "this machine's own container engine"
    return f"{whose} ({identity or 'it gives no id'})"


def _identity(docker: engine.Engine) -> str:
    """The id that an engine keeps with its data; '' from engines that have none."""
    return proc.run(docker.docker("info", "--format", "{{.ID}}"), check=False).out.strip()


def config(wanted: Wanted, *, restrict_oom: bool) -> str:
    """The kind configuration, as YAML.

    restrict_oom: containers' OOM scores may only be raised (machines without CAP_SYS_RESOURCE,
    where every sandbox would fail).
    """
    kubelet = {"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration"}
    patches = [
        # cgroup v1 is past support in Kubernetes, not on every machine.
        yaml.safe_dump({**kubelet, "failCgroupV1": False}),
    ]
    if wanted.nodes > 1:
        # Pods may run on every node. With a single node kind itself lifts the taint.
        untainted: dict[str, Any] = {"nodeRegistration": {"taints": []}}
        patches.append(yaml.safe_dump({"kind": "InitConfiguration", **untainted}))
    node = {"image": wanted.image, "labels": {LABEL: wanted.name}}
    roles = ["control-plane"] + ["worker"] * (wanted.nodes - 1)
    document: dict[str, Any] = {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "networking": {"podSubnet": POD_SUBNET, "apiServerAddress": "127.0.0.1"},
        "kubeadmConfigPatches": patches,
        "nodes": [{"role": role, **node} for role in roles],
    }
    if restrict_oom:
        document["containerdConfigPatches"] = [
            '[plugins."io.containerd.grpc.v1.cri"]\n  restrict_oom_score_adj = true\n'
        ]
    return yaml.safe_dump(document, sort_keys=False)


def ensure(wanted: Wanted, log: Log) -> str:
    """Have the cluster and have it healthy. Gives the outcome.

    Raises RefusedError (not ours), UnhealthyError (it does not come up; nothing is destroyed).
    """
    docker = engine.require()
    with artefacts.lock(f"cluster-{wanted.name}", log):
        record = read_record(wanted.name)
        action = decide(_found(docker, wanted.name, record), record, wanted)
        if action is Action.RECREATE:
            _delete(docker, wanted.name, log)
        if action in (Action.CREATE, Action.RECREATE):
            _create(docker, wanted, log)
        elif record and not record.engine:
            _write(wanted.name, replace(record, engine=_identity(docker), host=docker.host))
        if action is Action.START:
            _start(docker, wanted.name, log)
        if not kubeconfig(wanted.name).exists():
            _kind(docker, ["export", "kubeconfig", "--name", wanted.name], wanted.name, log)
        # Whoever started it (an engine that came back does), what is older does not count.
        fresh = action in (Action.CREATE, Action.RECREATE)
        since = None if fresh else _started(docker, wanted.name)
        wait_healthy(wanted.name, log, since=since)
    if action is Action.KEEP:
        older = record is not None and record.image != wanted.image
        note = "nothing to do"
        return note + (", on an older node image: `make delete` would renew it" if older else "")
    return {"create": "made", "recreate": "made anew", "start": "started again"}[action.value]


def stop(name: str) -> bool:
    """Stop the nodes of a cluster of ours; say whether any ran."""
    docker = engine.running()
    if not docker or not nodes(docker, name):
        return False
    found = _found(docker, name, read_record(name))
    active = [node.name for node in found if node.state == "running"]
    if active:
        # Time for the database to end in order.
        proc.run(docker.docker("stop", "--time", "30", *active))
    return bool(active)


def restart(name: str, log: Log) -> None:
    """Restart every node container, as after a power cut, and wait until all is healthy."""
    docker = engine.require()
    found = _found(docker, name, read_record(name))
    log.run(docker.docker("restart", "--time", "1", *[node.name for node in found]))
    wait_healthy(name, log, since=_started(docker, name))


def delete(name: str, log: Log) -> bool:
    """Delete a cluster of ours with all its data; say whether there was one."""
    refuse_foreign(name)
    record = read_record(name)
    if record and not engine.running():
        # Its containers lie in a stopped engine; forgetting them would make them strangers.
        engine.start(log)
    docker = engine.running()
    found = _found(docker, name, record) if docker else []
    if docker and found:
        _delete(docker, name, log)
    if record:
        artefacts.remove(repo.state(name))
    return bool(found)


def on_node(name: str, node: str, argv: Sequence[str]) -> proc.Result:
    """Run a command inside a node container of a cluster of ours."""
    docker = engine.require()
    _found(docker, name, read_record(name))
    return proc.run(docker.docker("exec", "--privileged", node, *argv))


def nodes(docker: engine.Engine, name: str) -> list[Node]:
    """The node containers of a cluster name, running or not, the control plane first."""
    shape = '{{.ID}}|{{.Names}}|{{.State}}|{{.Label "io.x-k8s.kind.role"}}'
    said = proc.run(
        docker.docker("ps", "--all", "--no-trunc", "--filter",
                      f"label=io.x-k8s.kind.cluster={name}", "--format", shape)
    ).out  # fmt: skip
    found = [Node(*line.split("|")) for line in said.splitlines() if line]
    return sorted(found, key=lambda node: (node.role != "control-plane", node.name))


def kubeconfig(name: str) -> Path:
    """Where the kubeconfig of a cluster lies."""
    return repo.state(name) / "kubeconfig"


def orphans() -> list[str]:
    """Names of clusters whose maker's checkout is gone; what does not name one is not judged."""
    makers = {name: repo.state(name) / CHECKOUT for name in repo.clusters()}
    noted = {name: Path(file.read_text()) for name, file in makers.items() if file.is_file()}
    return [name for name, checkout in noted.items() if not checkout.is_dir()]


def read_record(name: str) -> Record | None:
    """What we noted of a cluster; None if nothing, or nothing that can be read."""
    try:
        return Record(**json.loads(_record_file(name).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def wait_healthy(name: str, log: Log, *, since: datetime | None = None) -> None:
    """Wait until nodes, network, DNS and storage work; `since`: what is older does not count.

    Raises UnhealthyError with what is missing, and the way out.
    """
    deadline = time.monotonic() + START_SECONDS
    kubectl: list[str | Path] = [programs.tools().kubectl, "--kubeconfig", kubeconfig(name)]
    kinds = "nodes,pods,daemonsets,deployments"
    while True:
        asked = proc.run(
            [*kubectl, "--request-timeout=5s", "get", kinds, "--all-namespaces", "-o", "json"],
            check=False,
        )
        if asked.code == 0:
            missing = unhealthy(json.loads(asked.out)["items"], since) or _unreachable(name)
        else:
            missing = ["the API server does not answer yet"]
        if not missing:
            return
        log.say(missing[0])
        if time.monotonic() > deadline:
            raise UnhealthyError(
                f"cluster {name} is not healthy after {START_SECONDS:.0f} s: {missing[0]}",
                next="run this again, or `make delete` (it removes every page) and `make up`",
            )
        proc.pause(0.5)


PROBE = (
    "for try in 1 2 3 4; do "
    "curl -s --fail --max-time 2 --output /dev/null http://10.96.0.10:9153/metrics || exit 1; "
    "done"
)
"""From a node to DNS by its service address (kind's default), often enough to meet both its pods:
works only when kube-proxy has written its rules for the pods that live now."""


def _unreachable(name: str) -> list[str]:
    docker = engine.require()
    for node in nodes(docker, name):
        if proc.run(docker.docker("exec", node.name, "sh", "-c", PROBE), check=False).code != 0:
            return [f"{node.name} does not reach the cluster's DNS yet"]
    return []


SYSTEM = ("kube-system", "local-path-storage")
"""Namespaces whose workloads make a cluster; others are the user's."""


def unhealthy(items: Sequence[dict[str, Any]], since: datetime | None) -> list[str]:
    """What a cluster lacks, from its nodes, pods, DaemonSets and Deployments.

    A restarted node still shows the status of before: with `since`, a node's heartbeat and the
    start of each system pod's containers must be younger.
    """
    missing = []
    seen = dict.fromkeys(("Node", "DaemonSet", "Deployment"), 0)
    for item in items:
        kind, meta = item["kind"], item["metadata"]
        if kind != "Node" and meta["namespace"] not in SYSTEM:
            continue
        if kind in seen:
            seen[kind] += 1
        why = _REASONS[kind](item, since)
        if why:
            missing.append(f"{kind} {meta['name']}: {why}")
    missing += [f"no {kind} yet" for kind, count in seen.items() if not count]
    return missing


def _node_reason(item: dict[str, Any], since: datetime | None) -> str:
    for condition in item.get("status", {}).get("conditions", []):
        if condition["type"] == "Ready":
            if condition["status"] != "True":
                return "not ready"
            if since and _time(condition["lastHeartbeatTime"]) < since:
                return "no sign of life since its restart"
            return ""
    return "not ready"


def _daemon_reason(item: dict[str, Any], _since: datetime | None) -> str:
    status = item.get("status", {})
    if status.get("observedGeneration", 0) < item["metadata"]["generation"]:
        return "not seen by its controller yet"
    wanted, ready = status.get("desiredNumberScheduled", 0), status.get("numberReady", 0)
    return "" if wanted and ready == wanted else f"{ready} of {wanted} ready"


def _deployment_reason(item: dict[str, Any], _since: datetime | None) -> str:
    status = item.get("status", {})
    if status.get("observedGeneration", 0) < item["metadata"]["generation"]:
        return "not seen by its controller yet"
    wanted, ready = item["spec"].get("replicas", 1), status.get("readyReplicas", 0)
    return "" if ready >= wanted else f"{ready} of {wanted} ready"


def _pod_reason(item: dict[str, Any], since: datetime | None) -> str:
    if since is None:
        # Controllers count their pods; the control plane's own answer by being asked.
        return ""
    for container in item.get("status", {}).get("containerStatuses", []):
        started = container.get("state", {}).get("running", {}).get("startedAt")
        if not started or not container["ready"]:
            return f"{container['name']} is not ready"
        if _time(started) < since:
            return f"{container['name']} has not been restarted yet"
    return ""


_REASONS = {
    "Node": _node_reason,
    "DaemonSet": _daemon_reason,
    "Deployment": _deployment_reason,
    "Pod": _pod_reason,
}


def _create(docker: engine.Engine, wanted: Wanted, log: Log) -> None:
    artefacts.require_disk(4)
    state = repo.state(wanted.name)
    artefacts.remove(state)
    state.mkdir(parents=True)
    _note(wanted, "")
    (state / CHECKOUT).write_text(str(repo.ROOT))
    file = state / "kind.yaml"
    restrict_oom = "CAP_SYS_RESOURCE" in machine.lacking_capabilities()
    file.write_text(config(wanted, restrict_oom=restrict_oom))
    log.say("kind create cluster")
    argv = ["create", "cluster", "--name", wanted.name, "--config", str(file)]
    try:
        _kind(docker, argv, wanted.name, log, timeout=CREATE_SECONDS)
    except MachineError:
        # Half a cluster is of no use, and its record would only say so.
        _delete(docker, wanted.name, log)
        raise
    _note(wanted, nodes(docker, wanted.name)[0].id, _identity(docker), docker.host)


def _start(docker: engine.Engine, name: str, log: Log) -> None:
    for node in nodes(docker, name):
        if node.state != "running":
            log.say(f"starting {node.name}")
            log.run(docker.docker("start", node.name))


def _delete(docker: engine.Engine, name: str, log: Log) -> None:
    _kind(docker, ["delete", "cluster", "--name", name], name, log)
    artefacts.remove(repo.state(name))


def _kind(
    docker: engine.Engine, words: list[str], name: str, log: Log, timeout: float | None = None
) -> None:
    env = {**docker.environment, "KIND_EXPERIMENTAL_PROVIDER": "docker"}
    argv: list[str | Path] = [programs.tools().kind, *words, "--kubeconfig", kubeconfig(name)]
    log.run(argv, env=env, timeout=timeout)


def _note(wanted: Wanted, control_plane: str, engine_id: str = "", host: str = "") -> None:
    image, count, bed = wanted.image, wanted.nodes, wanted.bed
    _write(wanted.name, Record(image, count, bed, control_plane, engine_id, host))


def _write(name: str, record: Record) -> None:
    file = _record_file(name)
    fresh = file.with_suffix(".fresh")
    fresh.write_text(json.dumps(asdict(record), indent=2) + "\n")
    fresh.replace(file)


def _record_file(name: str) -> Path:
    return repo.state(name) / "cluster.json"


def _started(docker: engine.Engine, name: str) -> datetime:
    """When the youngest node container of a cluster was started."""
    names = [node.name for node in nodes(docker, name)]
    asked = proc.run(docker.docker("inspect", "--format", "{{.State.StartedAt}}", *names))
    return max(_time(line) for line in asked.out.split())


def _time(text: str) -> datetime:
    """A time of Kubernetes or Docker, to the second: Kubernetes' own are no finer."""
    return datetime.fromisoformat(f"{text[:19]}+00:00")
