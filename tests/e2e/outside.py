"""What lies outside of the cluster, inside the bed: a network namespace of the node, behind a veth.

Its addresses are those of TEST-NET-3 (RFC 5737), all of them, and something answers on every port.
They stand for the internet, the metadata service, providers and clients: no packet of a probe
leaves the node. A blackhole is laid below the way there, so that this holds without a way, too.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from tests.e2e.conftest import Bed
from tests.e2e.probes import OPEN, REFUSED, SECONDS, SILENT
from xwiki_stack import cluster

NETWORK = "203.0.113.0/24"

MUTE = 9997
"""The port of every address outside that never answers, whatever policies say."""

UP = f"""
set -eu
ip route replace blackhole {NETWORK} metric 1000
ip netns add outside
ip link add outside0 type veth peer name outside1
ip link set outside1 netns outside
ip addr add 198.51.100.1/30 dev outside0
ip link set outside0 up
inside() {{ nsenter --net=/run/netns/outside "$@"; }}
inside ip link set lo up
inside ip addr add 198.51.100.2/30 dev outside1
inside ip link set outside1 up
inside ip route add default via 198.51.100.1
# Every address of the network is this one's own, and every port is one.
inside ip route add local {NETWORK} dev lo
for protocol in tcp udp; do
    inside iptables -w -t nat -A PREROUTING -i outside1 -p "$protocol" -j REDIRECT --to-ports 9
done
# But one, where nobody ever answers.
inside iptables -w -t mangle -A PREROUTING -i outside1 -p tcp --dport {MUTE} -j DROP
inside setsid -f socat TCP-LISTEN:9,fork,reuseaddr,backlog=512 PIPE >/dev/null 2>&1
inside setsid -f socat UDP-LISTEN:9,fork,reuseaddr PIPE >/dev/null 2>&1
for _ in $(seq 50); do inside ss -Hltn 'sport = :9' | grep -q . && break; sleep 0.1; done
inside ss -Hltn 'sport = :9' | grep -q .
inside ss -Hlun 'sport = :9' | grep -q .
ip route replace {NETWORK} via 198.51.100.2 dev outside0
ip route get 203.0.113.1 | grep -q 'dev outside0'
"""

DOWN = f"""
ip netns pids outside 2>/dev/null | xargs -r kill 2>/dev/null
ip link del outside0 2>/dev/null
ip netns del outside 2>/dev/null
ip route del blackhole {NETWORK} metric 1000 2>/dev/null
true
"""

ASK = """
ask() {
    said=$(socat -u OPEN:/dev/null "TCP4:$3:$4,bind=$2,connect-timeout=SECONDS" 2>&1) \\
        && code=0 || code=$?
    case "$code $said" in
        0*) echo "$1 open" ;;
        *refused*) echo "$1 refused" ;;
        *) echo "$1 silent" ;;
    esac
}
for place in PLACES; do
    IFS=, read -r key source target port <<<"$place"
    ask "$key" "$source" "$target" "$port" </dev/null &
done
wait
""".replace("SECONDS", str(SECONDS))


@dataclass(frozen=True)
class Outside:
    """The network namespace on a node."""

    bed: Bed
    node: str

    def run(self, script: str, *within: str) -> str:
        """Run a script on the node. within: a program that runs it, with its words."""
        return cluster.on_node(self.bed.name, self.node, [*within, "bash", "-c", script]).out

    def asked(self, places: Mapping[str, tuple[str, str, int]]) -> dict[str, str]:
        """What came of TCP connections, by name; each from an address outside to one and a port."""
        words = [f"{key},{source},{to},{port}" for key, (source, to, port) in places.items()]
        found: dict[str, str] = {}
        # A process each: not all at once.
        for start in range(0, len(words), 100):
            asked = ASK.replace("PLACES", " ".join(words[start : start + 100]))
            said = self.run(asked, "nsenter", "--net=/run/netns/outside")
            found |= dict(line.split() for line in said.splitlines())
        assert found.keys() == places.keys()
        assert set(found.values()) <= {OPEN, SILENT, REFUSED}
        return found


@contextmanager
def outside(bed: Bed) -> Iterator[Outside]:
    """The outside of a cluster of one node."""
    (node,) = [item["metadata"]["name"] for item in bed.kube.every("Node")]
    there = Outside(bed, node)
    there.run(DOWN)  # what a killed run left
    try:
        there.run(UP)
        yield there
    finally:
        there.run(DOWN)
