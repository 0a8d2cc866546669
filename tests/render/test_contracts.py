"""The parts fit: what one object names, another one is or has, in every environment.

Secrets are the exception: no chart makes them, so `credentials.KEYS` is what they have.
"""

import copy
from collections.abc import Callable, Iterator

import pytest
import yaml

from tests import environments
from xwiki_stack import credentials, policy, render, repo
from xwiki_stack.cluster import images
from xwiki_stack.render import Manifest

Objects = tuple[Manifest, ...]
Broken = list[str]

BACKUPS = {
    "writer": {"access-key", "secret-key", "signing-key", "index-identity"},
    "verifier": {"access-key", "secret-key", "signing-key"},
    "prune": {"access-key", "secret-key", "signing-key"},
    "recovery": {"access-key", "secret-key", "identity"},
    "drill": {"access-key", "secret-key", "identity", "signing-key"},
    "exporter": {"access-key", "secret-key"},
}
"""Who holds which keys of backups: nobody more than its verb needs."""

FOREIGN = {("wiki-secrets", key) for key in credentials.KEYS["xwiki"]} | {
    *(("database-secrets", key) for key in credentials.KEYS["mysql"]),
    ("application-secrets", "application"),
    ("s3-secrets", "access-key"),
    ("s3-secrets", "secret-key"),
    ("wiki-secrets", "exporter-password"),
    ("database-secrets", "backup-copy"),
    ("database-secrets", "application-copy"),
    ("wiki-secrets", "exporter-password"),
    *((f"backup-{holder}", key) for holder, keys in BACKUPS.items() for key in keys),
}
"""Secret and key that tests/data/everything.yaml names beside ours."""


def pods(objects: Objects) -> Iterator[tuple[str, Manifest]]:
    """`kind/name` and pod spec of everything that makes pods."""
    for item in objects:
        if found := policy.pod_of(item):
            yield f"{item['kind']}/{item['metadata']['name']}", found["spec"]


def containers(spec: Manifest) -> list[Manifest]:
    return [*spec.get("initContainers", []), *spec["containers"]]


# Each contract gives what breaks it; `tests` below run each over every environment.


def secret_keys(objects: Objects) -> Broken:
    """Every Secret key that is read is one of the contract."""
    known = FOREIGN | {
        (f"{render.RELEASE}-{component}", key)
        for component, keys in credentials.KEYS.items()
        for key in keys
    }
    known |= {
        (f"{render.RELEASE}-backups-{holder}", key)
        for holder, keys in BACKUPS.items()
        for key in keys
    }
    read: list[tuple[str, str, str]] = []
    for name, spec in pods(objects):
        for container in containers(spec):
            for entry in container.get("env", []):
                if ref := entry.get("valueFrom", {}).get("secretKeyRef"):
                    read.append((name, ref["name"], ref["key"]))
        for volume in spec.get("volumes", []):
            if secret := volume.get("secret"):
                # One that is mounted whole names no keys; its name is what can be wrong.
                whole = [{"key": key} for key in credentials.KEYS["mysql"]]
                keys = [item["key"] for item in secret.get("items", whole)]
                read += [(name, secret["secretName"], key) for key in keys]
    assert len(read) >= 5, "the sweep looked at too little"
    return [
        f"{pod} reads {key} of {secret}" for pod, secret, key in read if (secret, key) not in known
    ]


def mounts(objects: Objects) -> Broken:
    """Every mount has a volume, every volume is mounted, no path is mounted twice."""
    broken, seen = [], 0
    for name, spec in pods(objects):
        volumes = {volume["name"] for volume in spec.get("volumes", [])}
        for item in objects:
            if f"{item['kind']}/{item['metadata']['name']}" == name:
                templates = item["spec"].get("volumeClaimTemplates", [])
                volumes |= {template["metadata"]["name"] for template in templates}
        used = set()
        for container in containers(spec):
            paths = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
            seen += len(paths)
            used |= {mount["name"] for mount in container.get("volumeMounts", [])}
            if len(paths) != len(set(paths)):
                broken.append(f"{name}/{container['name']} mounts a path twice")
        broken += [f"{name} mounts {missing}, which is no volume" for missing in used - volumes]
        broken += [f"{name} has volume {idle}, which nothing mounts" for idle in volumes - used]
    assert seen >= 10, "the sweep looked at too little"
    return broken


def configmaps(objects: Objects) -> Broken:
    """Every ConfigMap, key and file that is named exists."""
    data = {i["metadata"]["name"]: set(i["data"]) for i in objects if i["kind"] == "ConfigMap"}
    named: list[tuple[str, str, str]] = []
    for name, spec in pods(objects):
        sources = {
            v["name"]: v["configMap"]["name"] for v in spec.get("volumes", []) if "configMap" in v
        }
        named += [(name, source, "") for source in sources.values()]
        named += [
            (name, source["configMap"]["name"], item["key"])
            for volume in spec.get("volumes", [])
            for source in volume.get("projected", {}).get("sources", [])
            for item in source["configMap"]["items"]
        ]
        for container in containers(spec):
            for entry in container.get("env", []):
                if ref := entry.get("valueFrom", {}).get("configMapKeyRef"):
                    named.append((name, ref["name"], ref["key"]))
            for mount in container.get("volumeMounts", []):
                if mount["name"] in sources and "subPath" in mount:
                    named.append((name, sources[mount["name"]], mount["subPath"]))
    assert len(named) >= 4, "the sweep looked at too little"
    return [
        f"{pod} names {key or 'the whole'} of ConfigMap {source}"
        for pod, source, key in named
        if source not in data or (key and key not in data[source])
    ]


def selectors(objects: Objects) -> Broken:
    """Every Service selects pods, of one workload that stays, by a port that they have."""
    broken, seen = [], 0
    for service in (item for item in objects if item["kind"] == "Service"):
        seen += 1
        wanted = service["spec"]["selector"].items()
        chosen = [
            item
            for item in objects
            if policy.pod_of(item)
            and wanted <= policy.pod_of(item)["metadata"].get("labels", {}).items()
        ]
        name = service["metadata"]["name"]
        if len(chosen) != 1 or chosen[0]["kind"] == "Job":
            broken.append(f"Service {name} selects {[item['kind'] for item in chosen]}")
            continue
        ports = {
            port["name"]
            for container in policy.pod_of(chosen[0])["spec"]["containers"]
            for port in container.get("ports", [])
        }
        broken += [
            f"Service {name} sends to port {port['targetPort']}"
            for port in service["spec"]["ports"]
            if port["targetPort"] not in ports
        ]
    assert seen >= 2, "the sweep looked at too little"
    return broken


def accounts(objects: Objects) -> Broken:
    """Every pod's service account is one of ours."""
    ours = {item["metadata"]["name"] for item in objects if item["kind"] == "ServiceAccount"}
    assert ours
    return [
        f"{name} runs as {spec.get('serviceAccountName')}"
        for name, spec in pods(objects)
        if spec.get("serviceAccountName") not in ours
    ]


def claims(objects: Objects) -> Broken:
    """Every claim that a pod names is made here, or named by the values as one that exists."""
    made = {i["metadata"]["name"] for i in objects if i["kind"] == "PersistentVolumeClaim"}
    made |= {"restored-wiki", "archives"}
    named = [
        (name, volume["persistentVolumeClaim"]["claimName"])
        for name, spec in pods(objects)
        for volume in spec.get("volumes", [])
        if "persistentVolumeClaim" in volume
    ]
    assert named, "the sweep looked at nothing"
    return [f"{name} uses claim {claim}" for name, claim in named if claim not in made]


def database(objects: Objects) -> Broken:
    """Host, port, schema and account that the wiki uses are those that MySQL serves."""
    wiki = environments.only(objects, "Deployment", "-xwiki")
    (server,) = [i for i in objects if i["kind"] == "StatefulSet"]
    main = policy.pod_of(wiki)["spec"]
    asks = {e["name"]: e.get("value") for e in main["containers"][0]["env"]}
    has = {e["name"]: e.get("value") for e in policy.pod_of(server)["spec"]["containers"][0]["env"]}
    services = {i["metadata"]["name"]: i["spec"] for i in objects if i["kind"] == "Service"}
    ports = [str(p["port"]) for p in services.get(asks["DB_HOST"], {}).get("ports", [])]
    broken = [f"no Service {asks['DB_HOST']} on port {asks['DB_PORT']}"] * (
        asks["DB_PORT"] not in ports
    )
    if asks["DB_DATABASE"] not in has["SCHEMAS"].split():
        broken.append(f"MySQL makes no schema {asks['DB_DATABASE']}")
    if asks["DB_USER"] != has["APPLICATION_USER"]:
        broken.append(f"MySQL makes no account {asks['DB_USER']}")
    if services[asks["DB_HOST"]]["selector"] != server["spec"]["selector"]["matchLabels"]:
        broken.append("the Service of the database leads elsewhere")
    (waiter,) = [c for c in main["initContainers"] if c["name"] == "wait-for-database"]
    waits = {e["name"]: e.get("value") for e in waiter["env"]}
    broken += [f"the wait asks for another {k}" for k in waits if waits[k] != asks[k]]
    return broken


def job(objects: Objects) -> Broken:
    """The bootstrap Job talks to the wiki's Service."""
    (maker,) = [i for i in objects if i["kind"] == "Job"]
    env = {e["name"]: e["value"] for e in policy.pod_of(maker)["spec"]["containers"][0]["env"]}
    (service,) = [
        i for i in objects if i["kind"] == "Service" and i["metadata"]["name"].endswith("-xwiki")
    ]
    url = f"http://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    return [] if env["XWIKI_URL"] == url else [f"the Job asks {env['XWIKI_URL']}, not {url}"]


CONTRACTS: list[Callable[[Objects], Broken]] = [
    secret_keys, mounts, configmaps, selectors, accounts, claims, database, job,
]  # fmt: skip


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.__name__)
@pytest.mark.parametrize("environment", environments.names())
def test_the_parts_of_an_environment_fit(
    environment: str, contract: Callable[[Objects], Broken]
) -> None:
    assert contract(environments.objects(environment)) == []


# Each contract seen broken: one change to a real render.


def deployment(objects: Objects) -> Manifest:
    spec: Manifest = environments.only(objects, "Deployment", "-xwiki")["spec"]["template"]["spec"]
    return spec


def rename_secret_key(objects: Objects) -> None:
    for entry in deployment(objects)["containers"][0]["env"]:
        if "secretKeyRef" in entry.get("valueFrom", {}):
            entry["valueFrom"]["secretKeyRef"]["key"] = "superadmin_password"


def drop_volume(objects: Objects) -> None:
    deployment(objects)["volumes"].pop()


def leave_volume_idle(objects: Objects) -> None:
    deployment(objects)["volumes"].append({"name": "idle", "emptyDir": {}})


def mount_twice(objects: Objects) -> None:
    mounted = deployment(objects)["containers"][0]["volumeMounts"]
    mounted.append(dict(mounted[0]))


def drop_config_key(objects: Objects) -> None:
    del environments.only(objects, "ConfigMap", "-xwiki")["data"]["context.xml"]


def drop_java_options(objects: Objects) -> None:
    del environments.only(objects, "ConfigMap", "-xwiki")["data"]["JAVA_OPTS"]


def select_nothing(objects: Objects) -> None:
    selector = environments.only(objects, "Service", "-xwiki")["spec"]["selector"]
    selector["app.kubernetes.io/component"] = "wiki"


def select_the_job_too(objects: Objects) -> None:
    del environments.only(objects, "Service", "-xwiki")["spec"]["selector"][
        "app.kubernetes.io/component"
    ]


def send_to_no_port(objects: Objects) -> None:
    environments.only(objects, "Service", "-xwiki")["spec"]["ports"][0]["targetPort"] = "web"


def run_as_default(objects: Objects) -> None:
    deployment(objects)["serviceAccountName"] = "default"


def use_no_claim(objects: Objects) -> None:
    for volume in deployment(objects)["volumes"]:
        if volume["name"] == "data":
            volume["persistentVolumeClaim"]["claimName"] = "data"


def ask(variable: str, value: str) -> Callable[[Objects], None]:
    def change(objects: Objects) -> None:
        for entry in deployment(objects)["containers"][0]["env"]:
            if entry["name"] == variable:
                entry["value"] = value

    change.__name__ = f"ask_for_another_{variable}"
    return change


def wait_elsewhere(objects: Objects) -> None:
    deployment(objects)["initContainers"][0]["env"][0]["value"] = "elsewhere"


def serve_elsewhere(objects: Objects) -> None:
    environments.only(objects, "Service", "-xwiki")["spec"]["ports"][0]["port"] = 80


@pytest.mark.parametrize(
    ("contract", "change"),
    [
        (secret_keys, rename_secret_key),
        (mounts, drop_volume),
        (mounts, leave_volume_idle),
        (mounts, mount_twice),
        (configmaps, drop_config_key),
        (configmaps, drop_java_options),
        (selectors, select_nothing),
        (selectors, select_the_job_too),
        (selectors, send_to_no_port),
        (accounts, run_as_default),
        (claims, use_no_claim),
        (database, ask("DB_PORT", "3307")),
        (database, ask("DB_DATABASE", "other")),
        (database, ask("DB_USER", "other")),
        (database, wait_elsewhere),
        (job, serve_elsewhere),
    ],
    ids=lambda function: function.__name__,
)
def test_parts_that_do_not_fit_are_noticed(
    contract: Callable[[Objects], Broken], change: Callable[[Objects], None]
) -> None:
    objects = copy.deepcopy(environments.objects("defaults"))
    change(objects)
    assert contract(objects) != []


@pytest.mark.parametrize("environment", [n for n in environments.names() if n != "everything"])
def test_every_image_is_in_the_table_of_images(environment: str) -> None:
    """ci/images.yaml says how each is had without a registry; `everything` names a mirror."""
    known = {image.upstream.rpartition(":")[0] for image in images.table()}
    used = {
        container["image"].partition("@")[0].rpartition(":")[0]
        for _name, spec in pods(environments.objects(environment))
        for container in containers(spec)
    }
    assert len(used) >= 2
    assert used <= known


def test_both_charts_mean_the_same_database_by_default() -> None:
    wiki, mysql = (
        yaml.safe_load((repo.ROOT / "charts" / name / "values.yaml").read_text())
        for name in ("xwiki", "mysql")
    )
    assert wiki["database"]["port"] == mysql["service"]["port"]
    assert wiki["database"]["user"] == mysql["database"]["user"]
    assert wiki["database"]["name"] in mysql["database"]["schemas"]
    # The client that waits is the server's own: the node has that image already.
    for key in ("repository", "tag"):
        assert wiki["database"]["clientImage"][key] == mysql["image"][key]
