"""Derived numbers fit together, and what does not fit is refused."""

import dataclasses
import json
import re

import pytest

from xwiki_stack import intent, repo, sizing
from xwiki_stack.errors import IntentError
from xwiki_stack.intent import Cluster, Environment, bytes_of
from xwiki_stack.sizing import MI, Row


@pytest.mark.parametrize("size", sorted(sizing.SIZES))
def test_every_size_holds_heap_and_all_that_lives_beside_it(size: str) -> None:
    limit = sizing.SIZES[size]["xwiki"].limit_memory
    heap = int(sizing.heap(limit).value.removesuffix("m"))
    beside = sizing.METASPACE + sizing.CODE_CACHE + sizing.THREADS_AND_BUFFERS + sizing.LIBREOFFICE
    left = bytes_of(limit) // MI - beside
    assert heap >= sizing.HEAP_LEAST
    assert heap + heap / sizing.COLLECTOR <= left
    assert heap + sizing.HEAP_STEP > left * 0.9


def test_the_limit_that_was_asked_for_does_not_hold_xwiki() -> None:
    """Why `small` has 3Gi: docs/decisions/0003-xwiki-memory.md."""
    with pytest.raises(IntentError, match="2Gi leaves XWiki a heap of 768 MiB"):
        sizing.heap("2Gi")


@pytest.mark.parametrize("size", sorted(sizing.SIZES))
def test_every_size_holds_mysql_with_all_connections_busy(size: str) -> None:
    limit = sizing.SIZES[size]["mysql"].limit_memory
    pool = int(sizing.buffer_pool(limit).value.removesuffix("M"))
    total = bytes_of(limit) // MI
    assert pool % sizing.POOL_CHUNK == 0
    assert 0.5 <= pool / total <= 0.7
    connections = int(sizing.max_connections(limit).value)
    assert pool + connections * sizing.CONNECTION_WORST + sizing.MYSQL_FIXED <= total


def test_a_mysql_too_small_for_its_connections_is_refused() -> None:
    with pytest.raises(IntentError, match="does not hold MySQL's worst case"):
        sizing.buffer_pool("1Gi")


@pytest.mark.parametrize(
    ("limit", "connections"), [("2Gi", "80"), ("4Gi", "80"), ("6Gi", "120"), ("12Gi", "240")]
)
def test_connections_follow_the_limit_and_leave_room_beside_xwikis_pool(
    limit: str, connections: str
) -> None:
    assert sizing.max_connections(limit).value == connections
    assert int(connections) >= sizing.XWIKI_POOL + 20


def test_no_limit_from_the_smallest_size_on_is_too_small_for_its_connections() -> None:
    for mib in range(4096, 65 * 1024, 100):
        sizing.buffer_pool(f"{mib}Mi")


def test_the_small_requests_are_those_that_were_asked_for() -> None:
    small = sizing.SIZES["small"]
    assert (small["xwiki"].request_cpu, small["xwiki"].request_memory) == ("200m", "512Mi")
    assert (small["mysql"].request_cpu, small["mysql"].request_memory) == ("500m", "1Gi")
    assert (small["mysql"].limit_cpu, small["mysql"].limit_memory) == ("2", "4Gi")


def cluster(nodes: int, cpu: float, memory_mi: int, disk_gi: int = 50) -> Cluster:
    main = intent.load_cluster("main")
    memory, disk = memory_mi * MI, disk_gi * 1024 * MI
    return dataclasses.replace(main, name="c", nodes=nodes, cpu=cpu, memory=memory, disk=disk)


ROWS = [Row("platform", 2, 4096 * MI, many=True), Row("prod/mysql", 1, 1024 * MI, 50 * 1024 * MI)]


def test_requests_that_fit_are_accepted() -> None:
    sizing.refuse_too_small(cluster(1, 3, 5120), ROWS)


@pytest.mark.parametrize(
    ("nodes", "cpu", "memory", "words"),
    [
        (1, 2.5, 5120, "0.50 cores"),
        (1, 3, 5119, "1 MiB of memory"),
        (1, 1, 1024, "2.00 cores and 4096 MiB"),
        (2, 2.9, 5120, "while one node is away"),
    ],
)
def test_a_node_too_small_is_refused_with_what_is_missing(
    nodes: int, cpu: float, memory: int, words: str
) -> None:
    with pytest.raises(IntentError, match=words) as caught:
        sizing.refuse_too_small(cluster(nodes, cpu, memory), ROWS)
    assert "values/clusters/c.yaml: nodes" in str(caught.value)


def test_a_disk_too_small_is_refused_with_what_is_missing() -> None:
    with pytest.raises(IntentError, match="exceed the nodes by 1 GiB of disk"):
        sizing.refuse_too_small(cluster(1, 3, 5120, disk_gi=49), ROWS)


ROOMY = [Row("platform", 4, 8192 * MI, many=True), Row("prod/mysql", 2, 4096 * MI, 50 * 1024 * MI)]


@pytest.mark.parametrize(
    ("cpu", "memory", "disk", "words"),
    [
        (1.5, 4096, 50, "by 0.50 cores"),
        (2, 4095, 50, "by 1 MiB of memory"),
        (2, 4096, 49, "by 1 GiB of disk"),
    ],
)
def test_many_nodes_that_are_each_too_small_for_a_pod_are_refused(
    cpu: float, memory: int, disk: int, words: str
) -> None:
    sizing.refuse_too_small(cluster(9, 2, 4096, 50), ROOMY)
    with pytest.raises(IntentError, match=f"prod/mysql alone exceeds a node {words}") as caught:
        sizing.refuse_too_small(cluster(9, cpu, memory, disk), ROOMY)
    assert "the requests exceed" not in str(caught.value)


def test_the_platform_is_many_pods_and_need_not_fit_one_node() -> None:
    assert sizing._platform(intent.load_cluster("main")).many
    sizing.refuse_too_small(cluster(9, 1, 1024), [Row("platform", 4, 4096 * MI, many=True)])


def test_what_watches_the_cluster_counts() -> None:
    watched = intent.load_cluster("main")
    bare = dataclasses.replace(watched, metrics=False)
    logged = dataclasses.replace(watched, logs="loki")
    memory = [sizing._platform(one).memory for one in (bare, watched, logged)]
    assert memory == sorted(set(memory))


def test_resources_spelled_out_replace_those_of_the_size() -> None:
    local = intent.load_environment("local")
    given = {"requests": {"cpu": "1", "memory": "3Gi"}, "limits": {"cpu": "2", "memory": "8Gi"}}
    own = sizing.resources(dataclasses.replace(local, resources={"mysql": given}))
    assert own["mysql"] == sizing.Resources("1", "3Gi", "2", "8Gi")
    assert own["xwiki"] == sizing.SIZES["small"]["xwiki"]


def sized(size: str = "small", **storage: str) -> Environment:
    return dataclasses.replace(intent.load_environment("staging"), size=size, storage=storage)


def test_volumes_follow_the_size_unless_the_intent_spells_them_out() -> None:
    main = intent.load_cluster("main")
    small = sizing.volumes(sized(), main)
    assert (small["mysql"].size, small["xwiki"].size) == ("50Gi", "20Gi")
    large = sizing.volumes(sized("large", xwiki="70Gi"), main)
    assert (large["mysql"].size, large["xwiki"].size) == ("200Gi", "70Gi")
    assert sizing.SIZES.keys() == sizing.VOLUMES.keys()


def test_a_volume_is_no_less_than_a_new_one_is_born_with() -> None:
    main = intent.load_cluster("main")
    for too_small in (sized(mysql="40Gi"), sized(mysqlClaimTemplate="60Gi")):
        with pytest.raises(IntentError, match=r"staging.yaml: storage.mysql: .* is born with"):
            sizing.volumes(too_small, main)
    sizing.volumes(sized(mysql="40Gi", mysqlClaimTemplate="40Gi"), main)


def test_the_silent_claim_template_is_what_the_schema_publishes() -> None:
    schema = json.loads((intent.VALUES / "schemas" / "environment.schema.json").read_text())
    keys = schema["properties"]["storage"]["properties"]
    assert keys["mysqlClaimTemplate"]["default"] == sizing.CLAIM_TEMPLATE


@pytest.mark.parametrize(
    ("nodes", "driver", "words"),
    [
        (1, "longhorn", "The database class: xfs; one node: one copy, no fault tolerance"),
        (2, "longhorn", "The database class: xfs; 2 of 3 copies, as many as there are nodes"),
        (4, "longhorn", "The database class: xfs; 3 copies, each on a node of its own"),
        (1, "local-path", "The cluster's default class; one node: one copy, no fault tolerance"),
        (3, "local-path", "The cluster's default class; one copy, no fault tolerance"),
    ],
)
def test_a_volume_says_how_many_copies_there_are(nodes: int, driver: str, words: str) -> None:
    place = dataclasses.replace(intent.load_cluster("main"), nodes=nodes, driver=driver)
    assert sizing.volumes(sized(), place)["mysql"].reason == words


@pytest.mark.parametrize("nodes", [1, 2, 3, 5])
def test_volumes_have_as_many_copies_as_there_are_nodes_for(nodes: int) -> None:
    rows = sizing._rows(intent.load_environment("staging"), cluster(nodes, 6, 24576))
    size = {row.who: row.disk // (1024 * MI) for row in rows}
    assert size == {"staging/mysql": 50 * min(nodes, 3), "staging/xwiki": 20 * min(nodes, 2)}


@pytest.mark.parametrize("name", ["local", "main"])
def test_the_clusters_of_the_repository_carry_their_environments(name: str) -> None:
    rows = sizing.report(name)
    carried = [env for env in intent.environments() if intent.load_environment(env).cluster == name]
    assert carried
    assert len(rows) == 1 + 2 * len(carried)
    assert all(row.who in sizing.text(name) for row in rows)


@pytest.mark.parametrize("limit", ["2Gi", "3Gi"])
def test_the_decision_shows_the_arithmetic_of_the_code(limit: str) -> None:
    """The table of docs/decisions/0003-xwiki-memory.md, column by column."""
    page = (repo.ROOT / "docs" / "decisions" / "0003-xwiki-memory.md").read_text()
    rows = [re.split(r" *\| *", line.strip("| ")) for line in page.splitlines() if line[:1] == "|"]
    column = rows[0].index(f"with {limit}")
    shown = {row[0]: int(row[column]) for row in rows[2:]}
    parts = [sizing.METASPACE, sizing.CODE_CACHE, sizing.THREADS_AND_BUFFERS, sizing.LIBREOFFICE]
    total = bytes_of(limit) // MI
    left = total - sum(parts)
    heap = max(
        step for step in range(0, left, sizing.HEAP_STEP) if step + step // sizing.COLLECTOR <= left
    )
    collector = heap // sizing.COLLECTOR
    assert list(shown.values()) == [total, *parts, left, heap, collector, left - heap - collector]
    if heap >= sizing.HEAP_LEAST:
        assert sizing.heap(limit).value == f"{heap}m"


def test_the_decision_names_the_least_limit_that_passes() -> None:
    page = (repo.ROOT / "docs" / "decisions" / "0003-xwiki-memory.md").read_text()
    (least,) = re.findall(r"([0-9]+Mi) is the least", page)
    assert sizing.heap(least).value == f"{sizing.HEAP_LEAST}m"
    with pytest.raises(IntentError):
        sizing.heap(f"{bytes_of(least) // MI - 1}Mi")
