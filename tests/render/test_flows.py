"""The table of flows: no contradiction, a page that shows it, a chart that takes no bad value."""

import copy
import ipaddress
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import environments
from xwiki_stack import cli, flows, generate, matrix, oracle, render
from xwiki_stack.errors import IntentError
from xwiki_stack.render import Manifest

Document = dict[str, Any]


def document() -> Document:
    found: Document = yaml.safe_load(flows.TABLE.read_text())
    return found


@pytest.fixture(scope="module")
def objects() -> tuple[Manifest, ...]:
    """All that our charts can render."""
    values, own = matrix.fullest(flows.load())
    return matrix.wiki([values], own, "wiki").objects


def test_the_table_holds_no_contradiction(objects: tuple[Manifest, ...]) -> None:
    table = flows.load()
    assert len(table.flows) >= 35
    assert len(table.peers) >= 30
    assert flows.contradictions(table, flows.defaults(), objects) == []


# Contradictions


def row(told: Document, name: str) -> dict[str, Any]:
    found: dict[str, Any]
    (found,) = [flow for flow in told["flows"] if flow["name"] == name]
    return found


def change(name: str, /, **changed: Any) -> Callable[[Document], None]:
    return lambda told: row(told, name).update(changed)


def again(name: str, /, **changed: Any) -> Callable[[Document], None]:
    return lambda told: told["flows"].append({**copy.deepcopy(row(told, name)), **changed})


def peer(name: str, /, **changed: Any) -> Callable[[Document], None]:
    return lambda told: told["peers"][name].update(changed)


BACKUPS = {"peer": "backups", "roles": ["site", "sites"]}

CONTRADICTIONS: dict[str, tuple[Callable[[Document], None], str]] = {
    "labels that no declared pod has two of": (
        peer("cert-manager-webhook", labels={"app.kubernetes.io/name": "cert-manager",
             "app.kubernetes.io/component": "controller"}),
        "peers.cert-manager-webhook: selects the pods of cert-manager",
    ),
    "a component that no chart renders": (
        peer("mysql", component="database"),
        "xwiki-mysql: mysql is no pod that charts/mysql renders",
    ),
    "a role that no pod has": (
        change("backups-s3", **{"from": [BACKUPS]}),
        "backups-s3: backups (sites) is no pod that charts/backups renders",
    ),
    "a port that no rendered pod serves": (
        change("door-xwiki", ports=["8081/tcp"]),
        "door-xwiki: xwiki does not serve 8081 (it serves 8080)",
    ),
    "a port that no declared pod serves": (
        change("grafana-prometheus", ports=["9091/tcp"]),
        "grafana-prometheus: prometheus does not serve 9091 (it serves 8080, 9090)",
    ),
    "a job that is called": (
        change("door-xwiki", to=["bootstrap"]),
        "door-xwiki: bootstrap does not serve 8080 (it serves none)",
    ),
    "a row twice": (again("vault"), "vault: two flows have this name"),
    "a flow twice": (
        again("vault", name="again"),
        "again: external-secrets to vault on `vault.port`/tcp stands in vault too",
    ),
    "a flow twice, for one of several": (
        again("backups-mysql", name="again", **{"from": [{"peer": "backups", "roles": ["site"]}]}),
        "again: backups site to mysql on `mysql.port`/tcp stands in backups-mysql too",
    ),
    "a peer that nobody calls": (
        lambda told: told["peers"].update(idle={**told["peers"]["s3"]}),
        "peers.idle: no flow names it",
    ),
    "a switch that is none": (peer("loki", when="log"), "loki: when: log is no switch"),
    "a row's switch that is none": (
        change("xwiki-oidc", when="odic"), "xwiki-oidc: when: odic is no switch",
    ),
    "a room that is none": (peer("alloy", room="logs"), "peers.alloy.room: logs is no room"),
    "a room without namespaces": (
        lambda told: told["rooms"].update(logs={"policies": "deny", "why": "logs of everybody"}),
        "rooms: logs is not both a room and a key of values.yaml's namespaces",
    ),
    "networks without a value": (
        lambda told: told["peers"].update(store=told["peers"].pop("s3"))
        or row(told, "backups-s3").update(to=["store"], ports=["443/tcp"]),
        "peers.store: values.yaml has no store.cidrs",
    ),
    "a port of a value that has none": (
        change("certificates", ports=["acme/tcp"]),
        "certificates: values.yaml has no acme.port",
    ),
    "addresses of a value that has none": (
        peer("dns", besides="local"), "peers.dns.besides: values.yaml has no dns.local",
    ),
    "everybody as a target": (
        change("vault", to=["clients"]), "vault: to: clients is everyone; name networks",
    ),
    "a row without policies": (
        change("metrics-dns", **{"from": ["nodes"]}),
        "metrics-dns: neither end is in a room where policies are made",
    ),
    "a metadata address of IPv4": (
        lambda told: told["anywhere"].update({"0.0.0.0/0": ["10.0.0.0/8"]}),
        "anywhere: 169.254.169.254 is in it, which `never` forbids",
    ),
    "a metadata address of IPv6": (
        lambda told: told["internet"]["::/0"].remove("fc00::/7"),
        "internet: fd00:ec2::254 is in it, which `never` forbids",
    ),
    "a hole of the other family": (
        lambda told: told["internet"]["::/0"].append("10.0.0.0/8"),
        "internet: 10.0.0.0/8 is no part of ::/0",
    ),
}  # fmt: skip


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Document], Path]:
    """Writes a table; gives its file."""

    def written(told: Document) -> Path:
        path = tmp_path / "flows.yaml"
        path.write_text(yaml.safe_dump(told, sort_keys=False))
        return path

    return written


@pytest.mark.parametrize("mistake", CONTRADICTIONS)
def test_a_contradiction_is_told_in_one_line(
    mistake: str, write: Callable[[Document], Path], objects: tuple[Manifest, ...]
) -> None:
    wrong, line = CONTRADICTIONS[mistake]
    told = document()
    wrong(told)
    found = flows.contradictions(flows.load(write(told)), flows.defaults(), objects)
    assert [item for item in found if item.startswith(line)], found
    assert not [item for item in found if "\n" in item]


MISFITS: dict[str, tuple[Callable[[Document], None], str]] = {
    "an end that is no peer": (change("vault", to=["vualt"]), "vualt is no peer"),
    "a key that is none": (change("vault", whne="x"), "whne: unknown key"),
    "a direction that is none": (change("probe-no-egress", alone="out"), "'out' is not"),
    "a protocol that is none": (change("vault", ports=["1/sctp"]), "'1/sctp' does not fit"),
    "a reason that is missing": (
        lambda told: row(told, "vault").pop("reason") and None, "reason: is missing",
    ),
    "pods without labels": (
        lambda told: told["peers"]["loki"].pop("labels") and None, "peers.loki",
    ),
    "networks without an end": (
        lambda told: told["peers"]["s3"].pop("otherwise") and None, "otherwise: is missing",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISFITS)
def test_a_table_of_another_form_is_refused_in_one_line(
    mistake: str, write: Callable[[Document], Path]
) -> None:
    wrong, words = MISFITS[mistake]
    told = document()
    wrong(told)
    with pytest.raises(IntentError) as caught:
        flows.load(write(told))
    assert "\n" not in str(caught.value)
    assert words in str(caught.value)


def test_generate_refuses_a_contradiction_and_writes_nothing(
    write: Callable[[Document], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = document()
    change("grafana-prometheus", ports=["9091/tcp"])(told)
    change("backups-s3", **{"from": [BACKUPS]})(told)
    path = write(told)
    load = flows.load
    monkeypatch.setattr(flows, "load", lambda: load(path))
    monkeypatch.setattr(generate, "generate", pytest.fail)
    for words in (["generate"], ["generate", "--check"]):
        assert cli.main(words) == 2
        said = capsys.readouterr().err
        assert len(said.splitlines()) == 1
        assert (
            "charts/netpol/files/flows.yaml: grafana-prometheus: prometheus does not serve" in said
        )
    # What only the rendered pods tell comes once the rest is right.
    change("grafana-prometheus", ports=["9090/tcp"])(told)
    write(told)
    assert cli.main(["generate"]) == 2
    assert "backups (sites) is no pod that charts/backups renders" in capsys.readouterr().err


def test_helm_refuses_a_row_that_names_nobody(tmp_path: Path) -> None:
    chart = Path(shutil.copytree(flows.CHART, tmp_path / "netpol"))
    told = document()
    row(told, "dns")["to"] = ["dsn"]
    (chart / "files" / "flows.yaml").write_text(yaml.safe_dump(told))
    with pytest.raises(IntentError, match=r"flows\.yaml: dsn is no peer"):
        render.helm_template(chart)


# The page


def test_the_page_shows_every_row_and_every_peer() -> None:
    table, page = flows.load(), flows.page(flows.load())
    for flow in table.flows:
        alone = f" ({flow.alone} alone)" if flow.alone else ""
        assert f"| `{flow.name}`{alone} |" in page
        assert flow.reason in page
    for name in table.peers:
        assert f"| {name} |" in page or name == "clients"
    for room in table.rooms:
        assert f"| {room} |" in page
    drawn = page.partition("```mermaid")[2].partition("```")[0]
    assert 'xwiki -->|"3306"| mysql' in drawn
    assert len(drawn.splitlines()) > 60
    # A box and a pod of one name would be one to Mermaid.
    boxes = {line.split()[1].partition("[")[0] for line in drawn.splitlines() if "subgraph" in line}
    assert len(boxes) >= 6
    assert not boxes & set(table.peers)


# Networks, by the rendered objects alone: no packet goes there.


def blocks(name: str) -> dict[str, list[str]]:
    """Where a server without networks is looked for."""
    room = {"apiserver-egress-cert-manager": "certManager"}.get(name, "apps")
    values = {"room": room, "switches": {"backups": True}}
    (spec,) = [
        item["spec"]
        for item in environments.chart("netpol", values)
        if item["metadata"]["name"].endswith(f"-{name}")
    ]
    peers = [peer["ipBlock"] for peer in spec["egress"][0]["to"]]
    return {block["cidr"]: block["except"] for block in peers}


METADATA = ["169.254.169.254", "169.254.170.2", "fd00:ec2::254", "fe80::a9fe:a9fe"]

INSIDE = [
    "0.0.0.1", "10.1.2.3", "100.64.0.1", "127.0.0.1", "169.254.0.1", "172.16.0.1",
    "172.31.255.254", "192.0.0.170", "192.168.1.1", "198.18.0.1", "224.0.0.1", "255.255.255.255",
    "::1", "64:ff9b:1::1", "fc00::1", "fd00::10", "fe80::1", "febf::1", "ff02::1", *METADATA,
]  # fmt: skip

OUTSIDE = ["1.1.1.1", "11.0.0.1", "172.32.0.1", "169.253.0.1", "192.0.2.1", "2001:db8::1"]


def test_the_internet_has_no_address_of_the_inside() -> None:
    found = blocks("backups-s3-egress")
    assert [address for address in INSIDE if oracle.within(address, found)] == []
    assert [address for address in OUTSIDE if not oracle.within(address, found)] == []


def test_the_api_server_is_looked_for_inside_too_but_at_no_metadata_address() -> None:
    found = blocks("apiserver-egress-cert-manager")
    reached = ["10.1.2.3", "192.168.1.1", "fd00::10", *OUTSIDE]
    assert [address for address in reached if not oracle.within(address, found)] == []
    never = [*METADATA, "169.254.0.1", "fe80::1"]
    assert [address for address in never if oracle.within(address, found)] == []


def holes() -> Iterator[tuple[str, str]]:
    told = document()
    for word, name in (
        ("internet", "backups-s3-egress"),
        ("anywhere", "apiserver-egress-cert-manager"),
    ):
        for found in told[word].values():
            yield from ((name, hole) for hole in found)


@pytest.mark.parametrize(("name", "hole"), list(holes()))
def test_a_hole_that_is_missing_is_noticed(name: str, hole: str) -> None:
    found = {whole: [h for h in kept if h != hole] for whole, kept in blocks(name).items()}
    for whole in found:
        one, other = ipaddress.ip_network(whole), ipaddress.ip_network(hole)
        assert one.version != other.version or other.prefixlen > one.prefixlen
    assert [address for address in INSIDE if oracle.within(address, found)] != []


def test_no_generated_value_names_a_metadata_address() -> None:
    looked = 0
    for name in environments.names():
        for item in environments.objects(name):
            if item["kind"] == "NetworkPolicy":
                for rule in item["spec"].get("egress", []):
                    for block in (p["ipBlock"] for p in rule.get("to", []) if "ipBlock" in p):
                        holes = {block["cidr"]: block.get("except", [])}
                        looked += 1
                        assert not [a for a in METADATA if oracle.within(a, holes)], item
    assert looked > 10


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
        with pytest.raises(IntentError, match="specifications of the schema"):
            environments.chart("netpol", {"s3": {"cidrs": [cidr]}})


@pytest.mark.parametrize("address", METADATA)
def test_a_metadata_address_answers_no_names(address: str) -> None:
    width = 32 if "." in address else 128
    assert environments.chart("netpol", {"dns": {"nodeLocal": ["169.254.20.10/32"]}})
    with pytest.raises(IntentError, match="specifications of the schema"):
        environments.chart("netpol", {"dns": {"nodeLocal": [f"{address}/{width}"]}})


def test_no_policy_is_made_in_a_room_of_others() -> None:
    with pytest.raises(IntentError, match="specifications of the schema"):
        environments.chart("netpol", {"room": "dns"})
    assert [
        item["metadata"]["name"]
        for item in environments.chart(
            "netpol", {"room": "longhorn", "switches": {"longhorn": True, "metrics": True}}
        )
    ] == [f"{render.RELEASE}-netpol-metrics-longhorn-ingress"]
