"""Numbers that follow from other numbers, each with its reason. Pure arithmetic.

docs/decisions/0003-xwiki-memory.md argues the constants.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from xwiki_stack import intent, repo
from xwiki_stack.errors import IntentError
from xwiki_stack.intent import Cluster, Environment, bytes_of, cores_of

MI = 2**20

METASPACE = 384
"""MiB of class metadata: XWiki with its standard flavor loads some 60 000 classes."""

CODE_CACHE = 160
"""MiB of compiled code: below the JVM's 240 MiB reservation, above what a wiki fills."""

THREADS_AND_BUFFERS = 64
"""MiB for the touched stacks of a hundred threads and for direct buffers."""

COLLECTOR = 16
"""One part in so many of the heap is what G1 takes beside it: its mark bitmap alone is 1/64, card
table and block offsets are 1/512 each; then remembered sets and work queues. Seen on Temurin 25
with a live set of random references: 59 MiB beside 1024, 75 beside 1792, 131 beside 4608."""

LIBREOFFICE = 384
"""MiB of one LibreOffice server, which the image starts inside the same limit."""

HEAP_STEP = 256
"""MiB; a heap that is no round number hides that it was derived."""

HEAP_LEAST = 1024
"""MiB; the image's own default heap, less is not run by anybody."""

POOL_SHARE = 0.6
"""Share of MySQL's memory limit for InnoDB's cache: half to 70 % is the usual advice."""

POOL_CHUNK = 128
"""MiB; InnoDB rounds the pool up to whole chunks (innodb_buffer_pool_chunk_size) for each of its
instances. Seen on 9.7.4: 2432M stays with one, becomes 2560M with four, 3072M with eight. The
chart's my.cnf sets one."""

CONNECTIONS_PER_GI = 20
"""Connections for each GiB of MySQL's memory limit: at their worst a quarter of it, which fits
beside the pool's share from 4 GiB on."""

XWIKI_POOL = 50
"""Connections that one XWiki takes at most (its connection pool's maxTotal)."""

OTHER_CONNECTIONS = {"backup": 5, "monitor": 5, "an admin": 10, "reserve": 10}

CONNECTION_WORST = 12
"""MiB that one connection may take while it sorts (2), joins and sends a page's content."""

MYSQL_FIXED = 512
"""MiB of performance schema, caches, log buffer and the server itself."""


@dataclass(frozen=True)
class Resources:
    """Requests and limits of one workload, as Kubernetes quantities."""

    request_cpu: str
    request_memory: str
    limit_cpu: str
    limit_memory: str


@dataclass(frozen=True)
class Derived:
    """A number and why it is that number."""

    value: str
    reason: str


@dataclass(frozen=True)
class Schedules:
    """When backups run, as cron writes it in UTC; the minutes a run may take; and why."""

    site: str
    xar: str
    verify: str
    prune: str
    canary: str
    minutes: int
    reason: str


@dataclass(frozen=True)
class Drills:
    """When restores of both kinds are tried, in UTC; at most so many days apart."""

    schedule: str
    xar: str
    days: int

    @property
    def max_age_days(self) -> int:
        """From then on a drill is missing."""
        return self.days + DRILL_GRACE


DRILL_GRACE = 4
"""Days: a drill that fails on a Friday evening is looked after, and run again, by Tuesday."""

DRILLS = {
    "monthly": Drills("27 3 1 * *", "27 3 2 * *", 31),
    "quarterly": Drills("27 3 1 1,4,7,10 *", "27 3 2 1,4,7,10 *", 92),
}
"""By the intent's word, with the longest distance in days. In the night, between a proof and a
set."""


@dataclass(frozen=True)
class Alerts:
    """Thresholds of the alerts on backups, each with its reason. `drill_days` 0: none asked for."""

    stale_minutes: int
    stale: str
    xar_stale_minutes: int
    xar_stale: str
    unproven_minutes: int
    unproven: str
    drill_days: int
    drill: str
    drill_minutes: int
    slow: str
    prune_days: Derived


SIZES: dict[str, dict[str, Resources]] = {
    "small": {
        "xwiki": Resources("200m", "512Mi", "2", "3Gi"),
        "mysql": Resources("500m", "1Gi", "2", "4Gi"),
    },
    "medium": {
        "xwiki": Resources("500m", "1Gi", "3", "4Gi"),
        "mysql": Resources("1", "2Gi", "3", "6Gi"),
    },
    "large": {
        "xwiki": Resources("1", "2Gi", "4", "6Gi"),
        "mysql": Resources("2", "4Gi", "4", "12Gi"),
    },
}
"""Requests as the mission names them for `small`; its 2Gi for XWiki do not hold what must fit."""

PLATFORM = {"local-path": (0.95, 512 * MI), "longhorn": (1.5, 2560 * MI)}
"""Cores and bytes that the platform's own pods request: kind's control plane; or control plane,
Longhorn (12 % of a node's CPU by default), ingress, certificates and DNS. Estimates."""

METRICS = (0.5, 2560 * MI)
"""Cores and bytes of kube-prometheus-stack: Prometheus, Alertmanager, Grafana, exporters."""

LOKI = (0.2, 1024 * MI)
"""Cores and bytes of a single Loki with its collector."""

CLAIM_TEMPLATE = "50Gi"
"""What a new database volume is born with where the intent is silent, whatever the size: it cannot
change afterwards, a size can. The schema says the same."""

VOLUMES = {
    "small": {"mysql": "50Gi", "xwiki": "20Gi"},
    "medium": {"mysql": "100Gi", "xwiki": "50Gi"},
    "large": {"mysql": "200Gi", "xwiki": "100Gi"},
}
"""Volumes by size. The mission names the 50Gi of a small team's database; what users upload grows
with the team, so both follow the size."""


DAY = 24 * 60
"""Minutes."""


@dataclass(frozen=True)
class StorageClass:
    """A storage class: '' is the cluster's default; copies as far as there are nodes for them.

    reserves: whether each copy keeps its size of a node's disk from the start.
    """

    name: str
    what: str
    copies: int
    reserves: bool = True


LOCAL_PATH = StorageClass("", "The cluster's default class", copies=1, reserves=False)

CLASSES = {
    "local-path": {"mysql": LOCAL_PATH, "xwiki": LOCAL_PATH},
    "longhorn": {
        "mysql": StorageClass("longhorn-db", "The database class: xfs", copies=3),
        "xwiki": StorageClass("longhorn", "Longhorn's default class", copies=2),
    },
}
"""Storage class by driver and component, as the mission names them."""

PROMETHEUS_VOLUME, ALERTMANAGER_VOLUME, LOKI_VOLUME = 20, 1, 20
"""GiB. Prometheus: a node of this size has some 60 000 series, which are 8 GiB in 15 days; twice
that, since a full volume stops it. Alertmanager keeps silences. Loki: a week of a node's logs."""

PROMETHEUS_SHARE = 0.85
"""Share of its volume that Prometheus fills: the rest is for its log of writes and compaction."""

PROMETHEUS_LIMIT, PROMETHEUS_NODE = 2048, 512
"""MiB that Prometheus may take with one node, and for each further one."""

DRILL = (1.0, 2048 * MI)
"""Cores and bytes beside two full sets of an environment's workloads: the jobs of backups, the
first page, the answers to certificate challenges."""


def resources(environment: Environment) -> dict[str, Resources]:
    """Requests and limits of each component: those of the size, or those the intent spells out."""
    return {
        component: _spelled(environment.resources[component])
        if component in environment.resources
        else of_size
        for component, of_size in SIZES[environment.size].items()
    }


def _spelled(given: dict[str, dict[str, str]]) -> Resources:
    requests, limits = given["requests"], given["limits"]
    return Resources(requests["cpu"], requests["memory"], limits["cpu"], limits["memory"])


def heap(limit: str, where: str = "") -> Derived:
    """XWiki's -Xmx in MiB from its memory limit.

    where: the file that is to blame. Raises IntentError where too little is left.
    """
    total = bytes_of(limit) // MI
    beside = METASPACE + CODE_CACHE + THREADS_AND_BUFFERS + LIBREOFFICE
    left = (total - beside) * COLLECTOR // (COLLECTOR + 1) // HEAP_STEP * HEAP_STEP
    parts = (
        f"{total} MiB - metaspace {METASPACE} - code {CODE_CACHE} - threads and buffers "
        f"{THREADS_AND_BUFFERS} - LibreOffice {LIBREOFFICE} - 1/{COLLECTOR} of the heap for G1, "
        f"down to a multiple of {HEAP_STEP}"
    )
    if left < HEAP_LEAST:
        least = HEAP_LEAST + HEAP_LEAST // COLLECTOR + beside
        raise IntentError(
            f"a memory limit of {limit} leaves XWiki a heap of {left} MiB ({parts})",
            where=where,
            allowed=f"a heap of at least {HEAP_LEAST} MiB",
            next=f"choose a larger size, or a limit of at least {least}Mi",
        )
    return Derived(f"{left}m", parts)


def buffer_pool(limit: str, where: str = "") -> Derived:
    """innodb_buffer_pool_size in MiB from MySQL's memory limit.

    where: the file that is to blame.
    Raises IntentError where pool, connections and server do not fit the limit together.
    """
    total = bytes_of(limit) // MI
    pool = int(total * POOL_SHARE) // POOL_CHUNK * POOL_CHUNK
    worst = pool + int(max_connections(limit).value) * CONNECTION_WORST + MYSQL_FIXED
    if worst > total:
        raise IntentError(
            f"a memory limit of {limit} does not hold MySQL's worst case of {worst} MiB",
            where=where,
            next="choose a larger size or a higher limit",
        )
    return Derived(
        f"{pool}M",
        f"{POOL_SHARE:.0%} of {total} MiB, down to whole chunks of {POOL_CHUNK} MiB; worst case "
        f"with all connections sorting: {worst} MiB",
    )


def max_connections(limit: str) -> Derived:
    """max_connections of MySQL from its memory limit; `buffer_pool` checks that the limit holds."""
    needed = XWIKI_POOL + sum(OTHER_CONNECTIONS.values())
    affordable = bytes_of(limit) * CONNECTIONS_PER_GI // (1024 * MI)
    others = ", ".join(f"{name} {count}" for name, count in OTHER_CONNECTIONS.items())
    return Derived(
        str(max(needed, affordable)),
        f"{CONNECTIONS_PER_GI} for each GiB of the limit, at least {needed}: "
        f"XWiki's pool {XWIKI_POOL}, {others}",
    )


@dataclass(frozen=True)
class Volume:
    """A volume to be: size, storage class with its reason, copies, bytes that each reserves."""

    size: str
    storage_class: str
    reason: str
    copies: int
    reserved: int


def port(endpoint: str, where: str) -> Derived:
    """Port of an https endpoint. Raises IntentError, saying where, if it has none."""
    try:
        found = urlsplit(endpoint).port
    except ValueError as error:
        raise IntentError(
            f"{endpoint} has no port from 0 to 65535",
            where=where,
            next="write https://host or https://host:port",
        ) from error
    return Derived(str(found or 443), f"Port of {endpoint}" if found else "Port of https")


def volumes(environment: Environment, cluster: Cluster) -> dict[str, Volume]:
    """The volume of each component: of the size or of the intent, in the class of the driver.

    Raises IntentError where MySQL's is less than a new claim would be born with.
    """
    found = {}
    for component, of_size in VOLUMES[environment.size].items():
        chosen = CLASSES[cluster.driver][component]
        size = environment.storage.get(component, of_size)
        copies = min(cluster.nodes, chosen.copies)
        reason = f"{chosen.what}; {_tolerance(copies, chosen.copies, cluster.nodes)}"
        reserved = bytes_of(size) if chosen.reserves else 0
        found[component] = Volume(size, chosen.name, reason, copies, reserved)
    size, template = found["mysql"].size, claim_template(environment)
    if bytes_of(size) < bytes_of(template):
        raise IntentError(
            f"{size} is less than a new volume is born with ({template})",
            where=f"{repo.relative(environment.path)}: storage.mysql",
            next="raise it, or lower storage.mysqlClaimTemplate before the first install",
        )
    return found


def claim_template(environment: Environment) -> str:
    """The size that a new database volume is born with."""
    return environment.storage.get("mysqlClaimTemplate", CLAIM_TEMPLATE)


def copies(cluster: Cluster) -> dict[str, Derived]:
    """Copies of each Longhorn class by its name: as many as wanted, and as there are nodes."""
    found = {}
    for chosen in CLASSES["longhorn"].values():
        count = min(cluster.nodes, chosen.copies)
        found[chosen.name] = Derived(str(count), _tolerance(count, chosen.copies, cluster.nodes))
    return found


def doubled(cluster: Cluster) -> Derived:
    """Replicas of what two would keep reachable while one node is away."""
    if cluster.nodes == 1:
        return Derived("1", "One node: a second one would go with it")
    return Derived("2", f"{cluster.nodes} nodes: one may be away")


def retention_size() -> Derived:
    """What Prometheus keeps at most on its volume."""
    kept = int(PROMETHEUS_VOLUME * PROMETHEUS_SHARE)
    reason = f"{PROMETHEUS_SHARE:.0%} of the volume: the rest is for the log of writes"
    return Derived(f"{kept}GiB", reason)


def prometheus_limit(cluster: Cluster) -> Derived:
    """Prometheus' memory limit."""
    limit = PROMETHEUS_LIMIT + PROMETHEUS_NODE * (cluster.nodes - 1)
    reason = f"{PROMETHEUS_LIMIT} MiB for one node, {PROMETHEUS_NODE} for each further one"
    return Derived(f"{limit}Mi", reason)


def quota(environment: Environment) -> Resources:
    """What the pods of an environment's namespace may request together, and nothing else of it."""
    every = resources(environment).values()
    cpu = 2 * sum(cores_of(own.request_cpu) for own in every) + DRILL[0]
    memory = 2 * sum(bytes_of(own.request_memory) for own in every) + DRILL[1]
    return Resources(f"{round(cpu * 1000)}m", f"{memory // MI}Mi", "", "")


def _tolerance(copies: int, wanted: int, nodes: int) -> str:
    if copies == 1:
        return f"{'one node: ' if nodes == 1 else ''}one copy, no fault tolerance"
    if copies < wanted:
        return f"{copies} of {wanted} copies, as many as there are nodes"
    return f"{copies} copies, each on a node of its own"


@dataclass(frozen=True)
class Row:
    """What one consumer of a cluster requests: cores, bytes of memory, copies of so many bytes.

    many: whether it is more than one pod, so that no single node must hold it.
    """

    who: str
    cpu: float
    memory: int
    volume: int = 0
    copies: int = 1
    many: bool = False

    @property
    def disk(self) -> int:
        """Bytes of disk on all nodes together."""
        return self.volume * self.copies


def report(cluster_name: str) -> list[Row]:
    """All requests of a cluster, the platform first.

    Raises IntentError when a pod fits no node, or when the smallest set of nodes that must carry
    all requests does not: with one node the whole sum, with more nodes what is left when one of
    them is away.
    """
    cluster = intent.load_cluster(cluster_name)
    rows = [_platform(cluster)]
    for name in intent.environments():
        environment = intent.load_environment(name)
        if environment.cluster == cluster_name:
            rows += _rows(environment, cluster)
    refuse_too_small(cluster, rows)
    return rows


def _platform(cluster: Cluster) -> Row:
    parts = [PLATFORM[cluster.driver]]
    parts += [METRICS] if cluster.metrics else []
    parts += [LOKI] if cluster.logs == "loki" else []
    cpu, memory = sum(cpu for cpu, _ in parts), sum(memory for _, memory in parts)
    gibibytes = (PROMETHEUS_VOLUME + ALERTMANAGER_VOLUME if cluster.metrics else 0) + (
        LOKI_VOLUME if cluster.logs == "loki" else 0
    )
    chosen = CLASSES[cluster.driver]["xwiki"]  # the default class, which platform volumes take
    volume = gibibytes * 1024 * MI if chosen.reserves else 0
    return Row("platform", cpu, memory, volume, min(cluster.nodes, chosen.copies), many=True)


def drill_volume(wanted: dict[str, Volume]) -> str:
    """The volume of a drill, in MiB or GiB: database and files together."""
    total = sum(bytes_of(volume.size) for volume in wanted.values())
    return f"{total >> 30}Gi" if total % (1 << 30) == 0 else f"{total >> 20}Mi"


def _rows(environment: Environment, cluster: Cluster) -> list[Row]:
    wanted = volumes(environment, cluster)
    rows = [
        Row(
            f"{environment.name}/{component}",
            cores_of(own.request_cpu),
            bytes_of(own.request_memory),
            wanted[component].reserved,
            wanted[component].copies,
        )
        for component, own in resources(environment).items()
    ]
    if environment.drills:
        volume = wanted["xwiki"]
        reserved = bytes_of(drill_volume(wanted)) if volume.reserved else 0
        cpu, memory = sum(row.cpu for row in rows), sum(row.memory for row in rows)
        rows.append(Row(f"{environment.name}/drill", cpu, memory, reserved, volume.copies))
    return rows


def refuse_too_small(cluster: Cluster, rows: list[Row]) -> None:
    """Raise IntentError when the requests do not fit, with what is missing.

    A pod and a copy of a volume lie on one node each. CPU and memory of all must also do while one
    node of several is away; the copies of volumes on that node are not made anew at once, so disk
    counts with all nodes.
    """
    said = [
        f"{row.who} alone exceeds a node by {excess}"
        for row in rows
        if not row.many and (excess := _of_one_node(row, cluster))
    ]
    carrying = max(1, cluster.nodes - 1)
    excess = _excess(
        sum(row.cpu for row in rows) - carrying * cluster.cpu,
        sum(row.memory for row in rows) - carrying * cluster.memory,
        sum(row.disk for row in rows) - cluster.nodes * cluster.disk,
        " while one node is away" if cluster.nodes > 1 else "",
    )
    said += [f"the requests exceed the nodes by {excess}"] if excess else []
    if said:
        raise IntentError(
            " | ".join(said),
            where=f"values/clusters/{cluster.name}.yaml: nodes",
            next="take larger nodes, smaller sizes, or move an environment to another cluster",
        )


def _of_one_node(row: Row, cluster: Cluster) -> str:
    return _excess(row.cpu - cluster.cpu, row.memory - cluster.memory, row.volume - cluster.disk)


def _excess(cpu: float, memory: int, disk: int, away: str = "") -> str:
    """What of it is too much, in words; '' where nothing is."""
    parts = []
    if cpu > 1e-9:  # sums of thousandths are not exact
        parts.append(f"{cpu:.2f} cores{away}")
    if memory > 0:
        parts.append(f"{-(-memory // MI)} MiB of memory{away}")
    if disk > 0:
        parts.append(f"{-(-disk // (1024 * MI))} GiB of disk")
    return " and ".join(parts)


def text(cluster_name: str) -> str:
    """The report as a table with its sum and what the nodes offer."""
    cluster, rows = intent.load_cluster(cluster_name), report(cluster_name)
    total = Row(
        "sum",
        sum(row.cpu for row in rows),
        sum(row.memory for row in rows),
        sum(row.disk for row in rows),
    )
    offer = Row("offered by each node", cluster.cpu, cluster.memory, cluster.disk)
    lines = [
        f"cluster {cluster_name}, {cluster.nodes} node(s): what is requested "
        "(the platform's share is an estimate)"
    ]
    lines += [
        f"  {row.who:<24} {row.cpu:>6.2f} cores {row.memory / MI:>8.0f} MiB "
        f"{row.disk / (1024 * MI):>6.0f} GiB of disk"
        for row in [*rows, total, offer]
    ]
    return "\n".join(lines)


def distance(rpo_hours: int) -> int:
    """Minutes between two sets, so that two lie within the RPO; they divide the day."""
    hours = (60 * h for h in (24, 12, 8, 6, 4, 3, 2, 1) if 2 * h <= rpo_hours)
    return max(hours, default=30)


def schedules(rpo_hours: int) -> Schedules:
    """Two sets within the RPO, so that one failed run breaks no promise; a proof between them, a
    canary ten minutes before each.

    XWiki's own exports carry no promise: one a day, half-way between a set and its proof.
    Hours divide the day, so that the distance over midnight is the same; above two days it stays
    one a day, since nobody gains by fewer.
    """
    hours = distance(rpo_hours) // 60
    if not hours:
        return Schedules(
            site="17,47 * * * *",
            xar="24 1 * * *",
            verify="2,32 * * * *",
            prune="9 9 * * *",
            canary="7,37 * * * *",
            minutes=25,
            reason="An RPO of 1 hour: a set every 30 minutes, so that one failed run breaks no"
            " promise",
        )
    each = f"{hours} hours" if hours > 1 else "hour"
    minutes = min(360, hours * 50)
    site = range(1, 25, hours)
    proof = [(hour + hours // 2) % 24 for hour in site]
    proven = 17 if hours > 1 else 47
    # While the newest set is proven: it refuses before, and once the next one lies there.
    pruning = 60 * (1 + hours // 2) + proven + min(90, 15 * hours)
    export = 60 + 17 + (60 * (hours // 2) or 30) // 2
    return Schedules(
        site=f"17 {_hours(site)} * * *",
        xar=f"{export % 60} {export // 60} * * *",
        verify=f"{proven} {_hours(proof)} * * *",
        prune=f"{pruning % 60} {pruning // 60} * * *",
        canary=f"7 {_hours(site)} * * *",
        minutes=minutes,
        reason=f"An RPO of {rpo_hours} hours: a set every {each}, so that one failed run breaks no"
        " promise",
    )


def patience(rto_hours: int) -> Derived:
    """Minutes after which a restore is taken to hang: one that is late is worth more than none."""
    return Derived(
        str(max(720, 180 * rto_hours)), "Three times the RTO, at least half a day: it hangs then"
    )


def alerts(rpo_hours: int, rto_hours: int = 0, drills: str = "") -> Alerts:
    """When somebody is told. rto_hours 0, drills "": not decided, so nobody asks for drills."""
    apart, deadline = distance(rpo_hours), schedules(rpo_hours).minutes
    promised = DRILLS.get(drills) if rto_hours else None
    unopened = max(2, -(-OPENED_KEPT * apart // DAY))  # exports: two, one a day
    return Alerts(
        stale_minutes=apart + deadline,
        stale=f"{apart} between two sets and {deadline} that a run may take",
        xar_stale_minutes=2 * DAY + deadline,
        xar_stale=f"One of a day failed, and the {deadline} that a run may take",
        unproven_minutes=apart * 3 // 2 + deadline,
        unproven=f"Due after {apart // 2}, the next {apart} later, {deadline} that a run may take",
        drill_days=promised.max_age_days if promised else 0,
        drill=f"{drills.capitalize()}: {promised.days} days, and {DRILL_GRACE} to look after one"
        " that failed"
        if promised
        else "No drills are asked for",
        drill_minutes=30 * rto_hours or 60,
        slow=f"Half of an RTO of {rto_hours} hours" if promised else "Not looked at without drills",
        prune_days=Derived(
            str(unopened + DRILL_GRACE),
            f"The {OPENED_KEPT} sets that must be proven to open are made in {unopened} days,"
            f" and {DRILL_GRACE} to open them",
        ),
    )


OPENED_KEPT = 7
"""Sets proven to open that stay whatever their age, even where all later ones turn out bad."""


def retention(days: int, rpo_hours: int) -> dict[str, Derived]:
    """The keep rules of `backup prune`, by their names, from the days that the intent promises.

    A set stays if any rule keeps it, so the rules beyond the promised days thin out: a week's, then
    a month's newest.
    """
    minutes, hours, *_ = schedules(rpo_hours).site.split()
    a_day = len(minutes.split(",")) * (24 if hours == "*" else len(hours.split(",")))
    weeks, months = max(8, -(-days // 7)), max(6, -(-days // 30))
    return {
        "opened": Derived(str(OPENED_KEPT), "Sets proven to open, whatever their age"),
        "last": Derived(str(2 * a_day), f"All sets of two days, {a_day} a day"),
        "daily": Derived(str(days), "Days a set is kept at least, as the intent says"),
        "weekly": Derived(str(weeks), "Two months of weeks at least, for what is missed late"),
        "monthly": Derived(str(months), "Half a year of months at least, to look back"),
    }


def _hours(found: Iterable[int]) -> str:
    every = sorted({hour % 24 for hour in found})
    return "*" if len(every) == 24 else ",".join(map(str, every))
