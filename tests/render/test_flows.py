"""The policies come to what is wanted, for the pods that the charts render, and to nothing else.

What is wanted stands here once more, role by role; the table says it flow by flow.
"""

import copy
import ipaddress
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import environments
from xwiki_stack import policy, render, repo
from xwiki_stack.render import Manifest

Table = dict[str, Any]
Reach = tuple[str, str, int]
"""Whom, by which protocol, on which port."""

TABLE = repo.ROOT / "charts" / "netpol" / "files" / "flows.yaml"
ROLE = "xwiki-stack/role"

DNS: set[Reach] = {("dns", "UDP", 53), ("dns", "TCP", 53)}
S3: set[Reach] = {("s3", "TCP", 9000)}
MYSQL: set[Reach] = {("mysql", "TCP", 3307)}
XWIKI: set[Reach] = {("xwiki", "TCP", 8080)}

LEAVES: dict[str, set[Reach]] = {
    "site": DNS | S3 | MYSQL,
    "xar": DNS | S3 | MYSQL | XWIKI,
    "verify": DNS | S3,
    "prune": DNS | S3,
    "canary": DNS | XWIKI,
    # Database and wiki of a drill are beside it: never those of the release.
    "drill": DNS | S3,
    "drill-xar": DNS | S3,
    "restore": DNS | S3 | MYSQL,
    "restore-xar": DNS | S3 | XWIKI,
    "exporter": DNS | S3,
}
"""Where each role of charts/backups goes, with the ports of tests/data/everything.yaml."""

ENTERS: dict[str, set[Reach]] = {
    role: {("monitoring", "TCP", 9105)} if role == "exporter" else set() for role in LEAVES
}


def table() -> Table:
    found: Table = yaml.safe_load(TABLE.read_text())
    return found


def labels_of(item: Manifest) -> dict[str, str]:
    found: dict[str, str] = policy.pod_of(item)["metadata"].get("labels", {})
    return found


def selects(selector: Manifest, labels: dict[str, str]) -> bool:
    """Whether a label selector matches, by what Kubernetes' API says of the two parts."""
    for wanted in selector.get("matchExpressions", []):
        assert wanted["operator"] == "In"
        if labels.get(wanted["key"]) not in wanted["values"]:
            return False
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


def named(peer: Manifest, pods: list[Manifest]) -> str:
    """The word for a peer of a policy; itself where none fits."""
    if "namespaceSelector" in peer:
        place = peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
        labels = peer.get("podSelector", {}).get("matchLabels", {})
        known = {("dns", "kube-dns"): "dns", ("monitoring", None): "monitoring"}
        return known.get((place, labels.get("k8s-app")), str(peer))
    if "ipBlock" in peer:
        block = peer["ipBlock"]["cidr"]
        local = {"192.0.2.53/32": "dns", "2001:db8::53/128": "dns"}
        store = {"192.0.2.0/28": "s3", "2001:db8:1::/64": "s3"}
        return {**local, **store}.get(block, str(peer))
    found = {
        labels_of(item)["app.kubernetes.io/component"]
        for item in pods
        if selects(peer["podSelector"], labels_of(item))
    }
    return ",".join(sorted(found)) or str(peer)


def reached(objects: list[Manifest], direction: str) -> dict[str, set[Reach]]:
    """Where each role of backups goes, or whence it is entered; "anyone" without a policy."""
    pods = [item for item in objects if policy.pod_of(item)]
    policies = [item["spec"] for item in objects if item["kind"] == "NetworkPolicy"]
    found: dict[str, set[Reach]] = {}
    for pod in pods:
        labels = labels_of(pod)
        if labels.get("app.kubernetes.io/component") != "backups":
            continue
        mine = [
            spec
            for spec in policies
            if direction in spec["policyTypes"] and selects(spec["podSelector"], labels)
        ]
        found[labels[ROLE]] = {
            (named(peer, pods), port["protocol"], port["port"])
            for spec in mine
            for rule in spec.get(direction.lower(), [])
            for peer in rule["to" if direction == "Egress" else "from"]
            for port in rule["ports"]
        }
        if not mine:
            found[labels[ROLE]] = {("anyone", "any", 0)}
    return found


def unserved(objects: list[Manifest]) -> list[str]:
    """Ends of flows that no rendered pod is, and ports that it does not serve."""
    pods = [item for item in objects if policy.pod_of(item)]
    broken: list[str] = []

    def look(selector: Manifest, ports: list[Manifest], name: str) -> None:
        chosen = [item for item in pods if selects(selector, labels_of(item))]
        if not chosen:
            broken.append(f"{name} selects no pod: {selector}")
        served = {
            port["containerPort"]
            for item in chosen
            for container in policy.containers_of(item)
            for port in container.get("ports", [])
        }
        broken.extend(f"{name}: {p['port']}" for p in ports if p["port"] not in served)

    for item in (item for item in objects if item["kind"] == "NetworkPolicy"):
        name, spec = item["metadata"]["name"], item["spec"]
        entering = [port for rule in spec.get("ingress", []) for port in rule["ports"]]
        look(spec["podSelector"], entering, name)
        for rule in spec.get("egress", []):
            for peer in rule["to"]:
                if "namespaceSelector" not in peer and "podSelector" in peer:
                    look(peer["podSelector"], rule["ports"], name)
        for wanted in spec["podSelector"].get("matchExpressions", []):
            have = {labels_of(pod).get(wanted["key"]) for pod in pods}
            broken += [f"{name}: no pod is {role}" for role in wanted["values"] if role not in have]
    return broken


def differences(objects: list[Manifest]) -> list[str]:
    """What does not come to LEAVES and ENTERS."""
    found = {**{f"out of {k}": v for k, v in reached(objects, "Egress").items()},
             **{f"into {k}": v for k, v in reached(objects, "Ingress").items()}}  # fmt: skip
    wanted = {**{f"out of {k}": v for k, v in LEAVES.items()},
              **{f"into {k}": v for k, v in ENTERS.items()}}  # fmt: skip
    return [
        f"{pair}: {found.get(pair)} instead of {wanted.get(pair)}"
        for pair in sorted(found.keys() | wanted.keys())
        if found.get(pair) != wanted.get(pair)
    ]


def test_every_role_reaches_what_it_needs_and_nothing_else() -> None:
    objects = list(environments.objects("everything"))
    assert len(LEAVES) == 10
    assert differences(objects) == []
    assert unserved(objects) == []


def test_who_is_not_told_of_is_denied_both_ways() -> None:
    (deny,) = [
        item["spec"]
        for item in environments.objects("everything")
        if item["kind"] == "NetworkPolicy" and item["metadata"]["name"].endswith("-deny")
    ]
    assert deny["policyTypes"] == ["Ingress", "Egress"]
    assert not deny.keys() & {"ingress", "egress"}
    own = {"app.kubernetes.io/instance": render.RELEASE, "app.kubernetes.io/component": "backups"}
    assert selects(deny["podSelector"], own)
    assert selects(deny["podSelector"], {**own, ROLE: "new"})
    # Wiki and database are not guarded yet, and another release's pods are none of ours.
    for other in ("xwiki", "mysql"):
        assert not selects(deny["podSelector"], {**own, "app.kubernetes.io/component": other})
    assert not selects(deny["podSelector"], {**own, "app.kubernetes.io/instance": "other"})


# Each row, seen missing, narrower and wider.


def without(name: str) -> Callable[[Table], None]:
    def change(told: Table) -> None:
        told["flows"] = [flow for flow in told["flows"] if flow["name"] != name]

    return change


def roles(name: str, *, add: str = "", drop: str = "") -> Callable[[Table], None]:
    def change(told: Table) -> None:
        (flow,) = [flow for flow in told["flows"] if flow["name"] == name]
        end = flow["from"] if isinstance(flow["from"], dict) else flow["to"]
        end["roles"] = [role for role in [*end["roles"], *filter(None, [add])] if role != drop]

    return change


def ports(name: str, **changed: Any) -> Callable[[Table], None]:
    def change(told: Table) -> None:
        (flow,) = [flow for flow in told["flows"] if flow["name"] == name]
        flow["ports"][0] |= changed

    return change


def unguarded(told: Table) -> None:
    told["guarded"] = ["other"]


def any_pod_of_dns(told: Table) -> None:
    del told["peers"]["dns"]["labels"]


def everyone(told: Table) -> None:
    (flow,) = [flow for flow in told["flows"] if flow["name"] == "backups-mysql"]
    flow["from"]["roles"] = []


def turned(told: Table) -> None:
    (flow,) = [flow for flow in told["flows"] if flow["name"] == "monitoring-exporter"]
    flow["from"], flow["to"] = flow["to"], flow["from"]


NAMES = [flow["name"] for flow in table()["flows"]]

MUTANTS: dict[str, Callable[[Table], None]] = {
    **{f"no {name}": without(name) for name in NAMES},
    **{f"another port of {name}": ports(name, port=1) for name in NAMES},
    **{f"another protocol of {name}": ports(name, protocol="SCTP") for name in NAMES},
    **{
        f"{flow['name']} without {role}": roles(flow["name"], drop=role)
        for flow in table()["flows"]
        if isinstance(flow["from"], dict)
        for role in flow["from"]["roles"][:2]
    },
    "a drill at the release's database": roles("backups-mysql", add="drill"),
    "a drill at the release's wiki": roles("backups-xwiki", add="drill-xar"),
    "a verify at the database": roles("backups-mysql", add="verify"),
    "the canary at the store": roles("backups-s3", add="canary"),
    "Prometheus at a job": roles("monitoring-exporter", add="site"),
    "a role that no pod has": roles("backups-s3", add="sites"),
    "every role at the database": everyone,
    "nobody guarded": unguarded,
    "any pod of the namespace of DNS": any_pod_of_dns,
    "the exporter asks Prometheus": turned,
}


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    """A copy of charts/netpol."""
    return Path(shutil.copytree(TABLE.parents[1], tmp_path / "netpol"))


@pytest.mark.parametrize("mutant", MUTANTS)
def test_another_table_is_noticed(chart: Path, mutant: str) -> None:
    told = table()
    before = copy.deepcopy(told)
    MUTANTS[mutant](told)
    assert told != before
    (chart / "files" / "flows.yaml").write_text(yaml.safe_dump(told))
    everything = yaml.safe_load(environments.EVERYTHING.read_text())["netpol"]
    others = [i for i in environments.objects("everything") if i["kind"] != "NetworkPolicy"]
    objects = [*others, *render.helm_template(chart, [everything])]
    assert differences(objects) + unserved(objects) != []


def test_a_row_that_names_nobody_is_refused(chart: Path) -> None:
    told = table()
    told["flows"][0]["to"] = "dsn"
    (chart / "files" / "flows.yaml").write_text(yaml.safe_dump(told))
    with pytest.raises(Exception, match=r"flows\.yaml: dsn is no peer"):
        render.helm_template(chart)


def test_every_row_has_a_name_of_its_own_and_says_why() -> None:
    assert len(set(NAMES)) == len(NAMES) >= 5
    assert [flow["name"] for flow in table()["flows"] if len(flow["reason"]) < 10] == []


def rows() -> list[str]:
    """The table as charts/netpol/README.md shows it."""

    def end(who: Any) -> str:
        return who if isinstance(who, str) else f"{who['component']}: {', '.join(who['roles'])}"

    def port(told: Table) -> str:
        number = told["port"]
        word = str(number) if isinstance(number, int) else f"`{number}.port`"
        return f"{word}/{told['protocol'].lower()}"

    return [
        f"| `{flow['name']}` | {end(flow['from'])} | {end(flow['to'])} |"
        f" {', '.join(map(port, flow['ports']))} | {flow['reason']} |"
        for flow in table()["flows"]
    ]


def test_the_page_of_the_chart_shows_the_table() -> None:
    page = (TABLE.parents[1] / "README.md").read_text().splitlines()
    assert [line for line in page if line.startswith("| `")] == rows()


# The internet, by the rendered objects alone: no packet goes there.


def blocks() -> list[Manifest]:
    """Where a store without networks is looked for."""
    (spec,) = [
        item["spec"]
        for item in environments.chart("netpol")
        if item["metadata"]["name"].endswith("-s3-egress")
    ]
    return [peer["ipBlock"] for peer in spec["egress"][0]["to"]]


def passes(found: list[Manifest], address: str) -> bool:
    place = ipaddress.ip_address(address)
    return any(
        place in ipaddress.ip_network(block["cidr"])
        and not any(place in ipaddress.ip_network(hole) for hole in block["except"])
        for block in found
    )


INSIDE = [
    "0.0.0.1", "10.1.2.3", "100.64.0.1", "127.0.0.1", "169.254.169.254", "169.254.170.2",
    "172.16.0.1", "172.31.255.254", "192.0.0.170", "192.168.1.1", "198.18.0.1", "224.0.0.1",
    "255.255.255.255",
    "::1", "64:ff9b:1::1", "fc00::1", "fd00::10", "fd00:ec2::254", "fe80::1", "febf::1", "ff02::1",
]  # fmt: skip


def test_the_internet_has_no_address_of_the_inside() -> None:
    assert [address for address in INSIDE if passes(blocks(), address)] == []
    outside = ["1.1.1.1", "11.0.0.1", "172.32.0.1", "169.253.0.1", "192.0.2.1", "2001:db8::1"]
    assert [address for address in outside if not passes(blocks(), address)] == []
    for block in blocks():
        # The API server takes a hole only of the same family, and smaller than the whole.
        whole = ipaddress.ip_network(block["cidr"])
        for hole in map(ipaddress.ip_network, block["except"]):
            assert hole.version == whole.version and hole.prefixlen > whole.prefixlen


@pytest.mark.parametrize("hole", [hole for holes in table()["inside"].values() for hole in holes])
def test_a_hole_that_is_missing_is_noticed(hole: str) -> None:
    found = copy.deepcopy(blocks())
    for block in found:
        block["except"] = [other for other in block["except"] if other != hole]
    assert [address for address in INSIDE if passes(found, address)] != []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (["10.1.2.3/32", "192.0.2.0/24", "52.216.0.0/15"], ["10.1.2.3", "10.0.0.0/7", "0.0.0.0/1"]),
        (["2001:db8::/32", "2001:db8::1/128"], ["::/0", "fc00::/7", "2001::/16", "2001:db8::1"]),
        (
            ["169.60.0.0/16"],
            ["169.254.169.254/32", "169.254.0.0/16", "169.0.0.0/8", "300.1.1.1/32"],
        ),
        (["fd00:10:244::/56"], ["fe80::1/128", "fd00:ec2::254/128", "FD00:0EC2::/32"]),
    ],
)
def test_a_network_that_holds_a_metadata_address_is_refused(
    right: list[str], wrong: list[str]
) -> None:
    for cidr in right:
        assert environments.chart("netpol", {"s3": {"cidrs": [cidr]}})
    for cidr in wrong:
        with pytest.raises(Exception, match="specifications of the schema"):
            environments.chart("netpol", {"s3": {"cidrs": [cidr]}})


def test_generated_policies_follow_the_intent() -> None:
    for name in ("staging", "local"):
        assert not [i for i in environments.objects(name) if i["kind"] == "NetworkPolicy"]
    objects = environments.objects("prod-decided")
    found = [item for item in objects if item["kind"] == "NetworkPolicy"]
    # And those of the probe's two ends.
    assert len(found) == 1 + len(NAMES) + 2
