"""Both adapters of the port, for one suite."""
from __future__ import annotations
import uuid, pytest
from trainwright.cluster.admission import ADMISSION
from trainwright.cluster.kube import KubeCluster
from trainwright.cluster.memory import MemoryCluster
from trainwright.cluster.port import NAMESPACES
@pytest.fixture(params=["memory","kube"])
async def cluster(request):
    c = MemoryCluster(admission=ADMISSION) if request.param=="memory" else await KubeCluster.connect(kubeconfig="/tmp/kt/kubeconfig")
    yield c
    await c.close()
@pytest.fixture
async def namespace(cluster):
    n=f"t-{uuid.uuid4().hex[:6]}"
    await cluster.create(NAMESPACES, {"apiVersion":"v1","kind":"Namespace","metadata":{"name":n}})
    return n
