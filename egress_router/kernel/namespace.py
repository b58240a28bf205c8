"""The pod's network namespace as one thing: observe all of it, apply one step to it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from typing import TYPE_CHECKING

from egress_router.config.init import MacvlanMode
from egress_router.errors import KernelError
from egress_router.kernel.netlink import Netlink, set_sysctl
from egress_router.kernel.station import Station
from egress_router.plan import diff
from egress_router.plan.links import is_own

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from egress_router.config.addresses import Address
    from egress_router.config.init import ClaimConfig
    from egress_router.kernel.nft import Nft
    from egress_router.kernel.packets import Sighting
    from egress_router.plan.state import Link, Observed

CARRIER_TIMEOUT_S = 5.0  # a macvlan has its parent's at once; a NIC of its own negotiates first
_CARRIER_POLL_S = 0.05
# Locally administered, beside those that sources give (02:e6, 02:e7).
_ASKING_MAC_PREFIX = b"\x02\xe8"


class Namespace:
    """Applies the steps of `plan.diff`. `waiting` hears of a holder while a claim waits for it."""

    def __init__(
        self,
        nft: Nft,
        *,
        nameservers: tuple[Address, ...],
        claim: ClaimConfig,
        waiting: Callable[[Sighting], None],
    ) -> None:
        self._nft = nft
        self._netlink = Netlink()
        self._nameservers = nameservers
        self._claim = claim
        self._waiting = waiting
        self._station: Station | None = None
        self._stands_on: int | None = None  # the index of the station's link

    def close(self) -> None:
        """Closes the sockets; the nftables session belongs to the caller."""
        self._netlink.close()
        self._leave()

    def observe(self) -> Observed:
        """Everything the plan wants to know."""
        return dataclasses.replace(
            self._netlink.observe(),
            table=self._nft.observe_table(),
            nameservers=self._nameservers,
        )

    def check(self, ruleset: str) -> None:
        """Has the kernel look at a ruleset without loading it."""
        self._nft.check(ruleset)

    def apply(self, step: diff.Step) -> None:
        """Carries out one step; raises KernelError or AddressConflictError as it fails."""
        netlink = self._netlink
        match step:
            case diff.LoadTable(text=text, seal=seal):
                self._nft.load(text, seal=seal)
            case diff.CreateLink(link=link):
                netlink.create_link(link)
            case diff.DeleteLink(name=name):
                netlink.delete_link(name)
            case diff.ChangeLink(name=name, up=up, mtu=mtu, mac=mac):
                netlink.change_link(name, up=up, mtu=mtu, mac=mac)
            case diff.Claim(link=name, addresses=addresses):
                self._claim_addresses(name, addresses)
            case diff.SetSetting(setting=setting):
                netlink.set_setting(setting)
            case diff.SetSysctl(sysctl=sysctl):
                set_sysctl(sysctl)
            case diff.AddAddress(address=address):
                netlink.add_address(address)
            case diff.DeleteAddress(address=address):
                netlink.delete_address(address)
            case diff.AddRoute(route=route):
                netlink.change_route("add", route)
            case diff.DeleteRoute(route=route):
                netlink.change_route("del", route)
            case diff.AddRule(rule=rule):
                netlink.change_rule("add", rule)
            case diff.DeleteRule(rule=rule):
                netlink.change_rule("del", rule)

    def station(self, name: str, versions: Iterable[int]) -> Station:
        """The station on a link, which listens in these families: the one that has claimed there.

        It speaks with the link's own MAC. Raises KernelError.
        """
        for link in self._netlink.observe_links():
            if link.name == name and link.mac is not None:
                return self._stand_on(link, link.mac, versions)
        raise KernelError(f"speak on {name}", "there is no such link, or it has no MAC address")

    def _stand_on(self, link: Link, mac: str, versions: Iterable[int]) -> Station:
        if self._station is not None and self._stands_on == link.index:
            self._station.speak_as(mac)
            self._station.join(versions)
            return self._station
        self._leave()
        self._station, self._stands_on = Station(link.name, mac, versions), link.index
        return self._station

    def _leave(self) -> None:
        station, self._station = self._station, None
        if station is not None:
            station.close()

    def _claim_addresses(self, name: str, addresses: tuple[Address, ...]) -> None:
        self._wait_for_carrier(name)
        versions = {address.version for address in addresses}
        with self._distinct_mac(name):
            self.station(name, versions).claim(
                addresses,
                probe_s=self._claim.probe_s,
                timeout_s=self._claim.timeout_s,
                waiting=self._waiting,
            )

    @contextlib.contextmanager
    def _distinct_mac(self, name: str) -> Iterator[None]:
        """While it asks, a link that we made has a MAC that no other router has.

        Its own MAC follows from the source. Another router that holds the source has the same one:
        its answers would be taken for ours, and no switch would deliver them.
        """
        link = next((x for x in self._netlink.observe_links() if x.name == name), None)
        if link is None or not is_own(link) or link.macvlan_mode == MacvlanMode.PASSTHRU:
            yield
            return
        mac = _ASKING_MAC_PREFIX + os.urandom(4)
        self._netlink.change_link(name, up=None, mtu=None, mac=mac.hex(":"))
        try:
            yield
        finally:
            self._netlink.change_link(name, up=None, mtu=None, mac=link.mac)

    def _wait_for_carrier(self, name: str) -> None:
        """A probe that cannot be heard would find every address free."""
        deadline = time.monotonic() + CARRIER_TIMEOUT_S
        while True:
            link = next((x for x in self._netlink.observe_links() if x.name == name), None)
            if link is None or link.carrier:
                return
            if time.monotonic() > deadline:
                raise KernelError(
                    f"claim the source on {name}",
                    f"the link has had no carrier for {CARRIER_TIMEOUT_S:g} s",
                    remedy="bring its parent up, and check the cable or the virtual switch",
                )
            time.sleep(_CARRIER_POLL_S)
