"""The providers that are told by objects, by the names that jobs give them."""

from __future__ import annotations

from collections.abc import Mapping

from trainwright.api.scheduling import ProviderName
from trainwright.schedulers import kai, volcano
from trainwright.schedulers.coscheduling import Coscheduling
from trainwright.schedulers.kai import Kai
from trainwright.schedulers.kueue import Kueue
from trainwright.schedulers.native import Native
from trainwright.schedulers.objects import Objects
from trainwright.schedulers.volcano import Volcano

NAMED: Mapping[ProviderName, str | None] = {
    ProviderName.VOLCANO: volcano.SCHEDULER,
    ProviderName.COSCHEDULING: None,
    ProviderName.KAI: kai.SCHEDULER,
}
"""What pods call the schedulers of some providers, where nobody says otherwise. None: theirs is the cluster's default one."""


def providers(names: Mapping[ProviderName, str]) -> dict[ProviderName, Objects]:
    """All of them. `names`: what schedulers are called in this cluster, where they have other names."""
    return {
        ProviderName.NATIVE: Native(),
        ProviderName.VOLCANO: Volcano(names.get(ProviderName.VOLCANO, volcano.SCHEDULER)),
        ProviderName.COSCHEDULING: Coscheduling(names.get(ProviderName.COSCHEDULING)),
        ProviderName.KUEUE: Kueue(),
        ProviderName.KAI: Kai(names.get(ProviderName.KAI, kai.SCHEDULER)),
    }
