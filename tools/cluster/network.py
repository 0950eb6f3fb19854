"""The network of the node: a bridge with the pods, the node's own address on it, and nothing that leads out of the machine.

The node's address is the API server's and the DNS server's too, so that pods reach all of them without leaving the bridge.
A second bridge, without ports, holds the range of Services: what no rule of kube-proxy's catches is dropped there.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from cluster.machine import CNI

BRIDGE, SINK = "tw-pods", "tw-services"
NODE_ADDRESS = "10.244.0.1"
PODS = "10.244.0.0/16"
POD_PREFIX = 16
SERVICES = "10.96.0.0/16"
API_ADDRESS = "10.96.0.1"
DNS_ADDRESS = "10.96.0.10"
DOMAIN = "cluster.local"


def up(folder: Path) -> None:
    """Make the links, and write the configuration of the pods' network into `folder`."""
    for name in (BRIDGE, SINK):
        if not _works("ip", "link", "show", name):
            _run("ip", "link", "add", name, "type", "bridge")
    _run("ip", "addr", "replace", f"{NODE_ADDRESS}/{POD_PREFIX}", "dev", BRIDGE)
    _run("ip", "link", "set", BRIDGE, "up")
    _run("ip", "link", "set", SINK, "up")
    _run("ip", "route", "replace", SERVICES, "dev", SINK, "src", NODE_ADDRESS)
    for setting in ("net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables"):
        with contextlib.suppress(FileNotFoundError):
            Path("/proc/sys", setting).write_text("1")
    ipam = {
        "type": "host-local",
        "dataDir": str(folder / "leases"),
        "ranges": [[{"subnet": PODS, "gateway": NODE_ADDRESS}]],
        # No default route: a pod reaches pods and Services, and nothing outside.
        "routes": [{"dst": SERVICES}],
    }
    bridge = {"type": "bridge", "bridge": BRIDGE, "isGateway": True, "ipMasq": False, "hairpinMode": True, "ipam": ipam}
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    put(folder / "10-pods.conflist", json.dumps({"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge, portmap]}))


def down() -> None:
    """Take the links away, and the rules that kubelet and kube-proxy made."""
    for name in (BRIDGE, SINK):
        _works("ip", "link", "del", name)
    for table in ("mangle", "filter", "nat"):
        saved = subprocess.run(["iptables-save", "-t", table], capture_output=True, text=True, check=False).stdout
        for rule in re.findall(r"^-A (.*)$", saved, re.MULTILINE):
            if rule.startswith("KUBE-") or "-j KUBE-" in rule:
                # Words as iptables-save quotes them: its comments hold blanks.
                _works("sh", "-c", f"iptables -t {table} -D {rule}")
        for chain in re.findall(r"^:(KUBE-\S+)", saved, re.MULTILINE):
            _works("iptables", "-t", table, "-X", chain)


def proxy_command(program: Path, kubeconfig: Path, node: str, folder: Path) -> list[str]:
    """kube-proxy, by iptables."""
    config: dict[str, Any] = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "clusterCIDR": PODS,
        "hostnameOverride": node,
        "bindAddress": NODE_ADDRESS,
        "healthzBindAddress": f"{NODE_ADDRESS}:10256",
        "metricsBindAddress": f"{NODE_ADDRESS}:10249",
        # This machine's own connection tracking is left as it is.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "iptables": {"minSyncPeriod": "0s", "syncPeriod": "30s"},
    }
    path = folder / "proxy.yaml"
    put(path, yaml.safe_dump(config))
    return [str(program), f"--config={path}"]


def dns_command(program: Path, kubeconfig: Path, folder: Path) -> list[str]:
    """CoreDNS on the node's address; outside of the cluster nothing has a name."""
    context = yaml.safe_load(kubeconfig.read_text())["current-context"]
    path = folder / "Corefile"
    put(
        path,
        f"""{DOMAIN}:53 in-addr.arpa:53 ip6.arpa:53 {{
    bind {NODE_ADDRESS}
    errors
    ready {NODE_ADDRESS}:8181
    kubernetes {DOMAIN} in-addr.arpa ip6.arpa {{
        kubeconfig {kubeconfig} {context}
        pods insecure
        ttl 1
    }}
}}
.:53 {{
    bind {NODE_ADDRESS}
    errors
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
""",
    )
    return [str(program), "-conf", str(path), "-quiet"]


def dns_objects() -> list[dict[str, Any]]:
    """The Service by which pods ask CoreDNS, which is a process of the machine; and what CoreDNS may see."""
    rules = [
        {"apiGroups": [""], "resources": ["services", "pods", "namespaces", "endpoints"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    rbac = "rbac.authorization.k8s.io"
    name = {"name": "system:coredns"}
    ports = [{"name": f"dns-{protocol.lower()}", "port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]
    return [
        {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": name, "rules": rules},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": name,
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", **name},
            "subjects": [{"kind": "User", **name, "apiGroup": rbac}],
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": "kube-system"},
            "spec": {"clusterIP": DNS_ADDRESS, "ports": ports},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "kube-dns-host",
                "namespace": "kube-system",
                "labels": {"kubernetes.io/service-name": "kube-dns"},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": [NODE_ADDRESS], "conditions": {"ready": True}}],
            "ports": ports,
        },
    ]


def put(path: Path, text: str) -> None:
    """Write a file only if it differs: containerd and kube-proxy start over when theirs is touched."""
    if path.exists() and path.read_text() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".part")
    aside.write_text(text)
    aside.rename(path)


def cni_programs() -> str:
    return str(CNI)


def _works(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _run(*command: str) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {result.stderr.strip()}")
