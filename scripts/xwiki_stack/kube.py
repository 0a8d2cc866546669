"""The API server, as far as we talk to it: plain objects in, plain objects out."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kubernetes
import yaml
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import (
    DynamicApiError,
    NotFoundError,
    ResourceNotFoundError,
)
from urllib3.exceptions import HTTPError

from xwiki_stack import repo
from xwiki_stack.errors import IntentError, StackError, UnhealthyError

Manifest = dict[str, Any]

PATIENCE = 10.0
"""Seconds for one answer; the library tries three times more. A frozen server hangs nobody."""

FIELD_MANAGER = "xwiki-stack"
"""Who we are in server-side apply, so that our fields and Helm's are told apart."""


class Kube:
    """One cluster, named by its kubeconfig file and, if it is not the current one, its context.

    Every method raises UnhealthyError when the API server does not answer, and StackError with
    its words when it refuses. IntentError for a file that is no kubeconfig, or lacks the context.
    """

    def __init__(self, kubeconfig: Path, context: str | None = None) -> None:
        self.kubeconfig = kubeconfig
        client = _client(kubeconfig, context)
        with _explained():
            self._core = kubernetes.client.CoreV1Api(client)
            self._dynamic = _Dynamic(client, cache_file=_discovered(client.configuration.host))  # type: ignore[no-untyped-call]

    def get(self, kind: str, name: str, namespace: str | None = None) -> Manifest | None:
        """One object, or None if there is no such object."""
        with _explained():
            try:
                found = self._resource(kind).get(name=name, namespace=namespace)
            except NotFoundError:
                return None
            return _plain(found)

    def live(self, manifest: Manifest, namespace: str) -> Manifest | None:
        """The object that a rendered one became, or None if there is none, or no such kind.

        namespace: where it lies if it does not say so itself; no matter for cluster-wide ones.
        """
        meta = manifest["metadata"]
        where = meta.get("namespace", namespace)
        with _explained():
            try:
                resource = self._resource(manifest["kind"], manifest["apiVersion"])
                found = resource.get(name=meta["name"], namespace=where)
            except (NotFoundError, ResourceNotFoundError):
                return None
            return _plain(found)

    def every(self, kind: str, namespace: str | None = None, labels: str = "") -> list[Manifest]:
        """All objects of a kind, in one namespace or in all, by label selector.

        None where the server has no such kind: a cluster without Flux has no releases of it.
        """
        with _explained():
            try:
                resource = self._resource(kind)
            except ResourceNotFoundError:
                return []
            found = resource.get(namespace=namespace, label_selector=labels)
            return list(_plain(found)["items"])

    def apply(self, manifest: Manifest) -> None:
        """Server-side apply; what others manage stays theirs, a conflict is an error."""
        meta = manifest["metadata"]
        with _explained():
            self._dynamic.server_side_apply(  # type: ignore[no-untyped-call]
                self._resource(manifest["kind"], manifest["apiVersion"]),
                body=manifest,
                name=meta["name"],
                namespace=meta.get("namespace"),
                field_manager=FIELD_MANAGER,
            )

    def patch(self, kind: str, name: str, namespace: str, body: Manifest) -> None:
        """A merge patch of one object."""
        with _explained():
            self._resource(kind).patch(
                name=name,
                namespace=namespace,
                body=body,
                content_type="application/merge-patch+json",
            )

    def delete(self, kind: str, name: str, namespace: str | None = None, *, orphan: bool) -> None:
        """Delete one object; with `orphan` what it owns stays."""
        policy = "Orphan" if orphan else "Foreground"
        with _explained():
            self._resource(kind).delete(
                name=name,
                namespace=namespace,
                body={"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy},
            )

    def logs(self, namespace: str, pod: str, container: str, *, lines: int = 20) -> str:
        """The last lines of a container, or of its previous life if it has not started anew."""
        with _explained():
            for previous in (False, True):
                try:
                    text = self._core.read_namespaced_pod_log(
                        pod,
                        namespace,
                        container=container,
                        tail_lines=lines,
                        previous=previous,
                        _request_timeout=PATIENCE,
                    )
                except ApiException:
                    continue
                if text:
                    return str(text)
        return ""

    def volume_usage(self, namespace: str) -> dict[str, tuple[int, int]]:
        """Bytes used and capacity by claim name, as the kubelets measure mounted volumes."""
        return {
            volume["pvcRef"]["name"]: (volume["usedBytes"], volume["capacityBytes"])
            for pod in self._kubelet_pods()
            for volume in pod.get("volume", [])
            if volume.get("pvcRef", {}).get("namespace") == namespace and "usedBytes" in volume
        }

    def pod_memory(self) -> list[tuple[str, str, int]]:
        """Namespace, name and working set in bytes of every pod that runs."""
        return [
            (
                pod["podRef"]["namespace"],
                pod["podRef"]["name"],
                int(pod.get("memory", {}).get("workingSetBytes", 0)),
            )
            for pod in self._kubelet_pods()
        ]

    def _kubelet_pods(self) -> list[Manifest]:
        """What the kubelet of every node measures of its pods (its /stats/summary)."""
        pods: list[Manifest] = []
        for node in self.every("Node"):
            with _explained():
                name = node["metadata"]["name"]
                # Undecoded: the client would hand the JSON on as Python's notation of a dict.
                answer: Any = self._core.connect_get_node_proxy_with_path_with_http_info(
                    name, "stats/summary", _preload_content=False, _request_timeout=PATIENCE
                )
                pods += json.loads(answer.data).get("pods", [])
        return pods

    def _resource(self, kind: str, api_version: str | None = None) -> Any:
        version = api_version or _VERSIONS[kind]
        return self._dynamic.resources.get(api_version=version, kind=kind)


def restricted_namespace(name: str, labels: Mapping[str, str]) -> Manifest:
    """A namespace that admits pods of Pod Security level `restricted` only, and says why not."""
    levels = dict.fromkeys(("enforce", "warn", "audit"), "restricted")
    own = {f"pod-security.kubernetes.io/{mode}": level for mode, level in levels.items()}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {**labels, **own}},
    }


class _Dynamic(DynamicClient):
    """The library's client, which would wait for ever."""

    def request(self, method: str, path: str, body: Any = None, **params: Any) -> Any:
        return super().request(method, path, body, _request_timeout=PATIENCE, **params)


_VERSIONS = {
    "Deployment": "apps/v1",
    "Event": "v1",
    "GitRepository": "source.toolkit.fluxcd.io/v1",
    "HelmChart": "source.toolkit.fluxcd.io/v1",
    "HelmRelease": "helm.toolkit.fluxcd.io/v2",
    "Job": "batch/v1",
    "Kustomization": "kustomize.toolkit.fluxcd.io/v1",
    "Namespace": "v1",
    "Node": "v1",
    "PersistentVolume": "v1",
    "PersistentVolumeClaim": "v1",
    "Pod": "v1",
    "ReplicaSet": "apps/v1",
    "Secret": "v1",
    "Service": "v1",
    "StatefulSet": "apps/v1",
    "StorageClass": "storage.k8s.io/v1",
}


def _discovered(server: str) -> str:
    """Where the library keeps what kinds a server knows; by itself it would litter /tmp."""
    folder = repo.cache() / "kube"
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder / f"kinds-{repo.digest(server)}.json")


def silent() -> UnhealthyError:
    """What to raise when the API server does not answer."""
    return UnhealthyError(
        "the cluster's API server does not answer",
        next="`make up` starts or repairs the local cluster",
    )


def _client(kubeconfig: Path, context: str | None) -> Any:
    """The library's client. It says in many ways that a file is no kubeconfig."""
    try:
        return kubernetes.config.new_client_from_config(str(kubeconfig), context)  # type: ignore[no-untyped-call]
    except (
        kubernetes.config.ConfigException,
        yaml.YAMLError,
        OSError,
        ValueError,
        TypeError,
        AttributeError,
        LookupError,
    ) as broken:
        words = str(broken).splitlines() or [type(broken).__name__]
        raise IntentError(
            f"no client can be made from this kubeconfig: {words[0]}",
            where=str(kubeconfig),
            next="name a valid file and context; the local cluster's file is written anew by "
            "`make up` once it is removed",
        ) from broken


def _plain(found: Any) -> Manifest:
    plain: Manifest = found.to_dict()
    return plain


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except DynamicApiError as refused:
        raise StackError(_message(refused.body) or str(refused.reason)) from refused
    except ApiException as refused:
        raise StackError(_message(refused.body) or str(refused.reason)) from refused
    except (HTTPError, OSError) as error:
        raise silent() from error


def _message(body: Any) -> str:
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body or "")
    try:
        return str(json.loads(text).get("message", ""))
    except (json.JSONDecodeError, AttributeError):
        return text
