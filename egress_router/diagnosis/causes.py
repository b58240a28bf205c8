"""The usual causes, each with its remedy; the only place where they are worded.

Functions where a cause names an address. Whoever reads this has a broken router and little time:
a cause says how it comes about, a remedy names the setting by the words its owner uses.
"""

from __future__ import annotations

from egress_router.diagnosis.findings import Advice

NEW_POD = "delete the pod, so that init runs again; with NET_ADMIN the daemon repairs it by itself"

INIT_NOT_RUN = Advice(
    cause="the init container has not run in this pod, or has failed",
    remedy="look at its log (kubectl logs POD -c NAME-OF-THE-INIT-CONTAINER); exit code 2 is the "
    "configuration, 3 an address that is in use, 4 the kernel or a capability",
)
LINK_NOT_HANDED = Advice(
    cause="the network plugin did not hand a link to this pod",
    remedy='check the annotation: pod.network.openshift.io/assign-macvlan: "true" or the NIC\'s '
    "name, or k8s.v1.cni.cncf.io/networks with the name of a NetworkAttachmentDefinition of this "
    "namespace; the pod must be made anew after a change",
)
LINK_NAMED_OTHERWISE = Advice(
    cause="the link has another name than macvlan0 or net1",
    remedy="set EGRESS_INTERFACE to its name, for init and for the daemon",
)
LINK_REMOVED = Advice(
    cause="the link was there and was removed, or went with its parent NIC on the node",
    remedy="see that the node still has the NIC, then delete the pod",
)
LINK_SET_DOWN = Advice(
    cause="somebody set the link down, which also took its routes away",
    remedy=NEW_POD,
)
PARENT_DOWN = Advice(
    cause="the parent NIC on the node is down: cable, switch port, bond, or the VM's virtual NIC",
    remedy="on the node: ip -d link show; the router works again by itself once the NIC is up",
)
SOURCE_REMOVED = Advice(
    cause="somebody removed the address, or the link was set down and up again",
    remedy=NEW_POD,
)
ROUTES_CHANGED = Advice(
    cause="another program of the pod or the node changed its routes or rules",
    remedy=NEW_POD,
)
TABLE_FLUSHED = Advice(
    cause="something flushed nftables in this pod (nft flush ruleset, a firewall or mesh sidecar)",
    remedy=f"find who does, for it will happen again; {NEW_POD}",
)
FORWARDING_RESET = Advice(
    cause="another program set it, or the link came up anew after init",
    remedy=NEW_POD,
)
FORWARDING6_MISSING = Advice(
    cause="IPv6 is forwarded only where the whole pod has the sysctl, which init may not set",
    remedy="give the pod the sysctl net.ipv6.conf.all.forwarding=1 (securityContext.sysctls), or "
    "run init privileged",
)
MISTYPED = Advice(
    cause="the variable is not known, so it has no effect",
    remedy="correct its name in the pod's specification",
)
FORGED = Advice(
    cause="the hypervisor drops frames whose MAC address is not the virtual machine's own",
    remedy="vSphere: allow forged transmits and MAC address changes on the port group of the "
    "parent NIC; Hyper-V, KVM and others: allow MAC address spoofing",
)
MAC_LIMIT = Advice(
    cause="the switch port, physical or virtual, takes a limited number of MAC addresses",
    remedy="raise the limit of its port security by one for each router on the node",
)
WRONG_PARENT = Advice(
    cause="the link hangs on the wrong NIC or VLAN of the node",
    remedy="the NIC that EGRESS_PARENT, the annotation assign-macvlan or the attachment's master "
    "names must be the one in the gateway's network; clear it with the node's owner",
)
CLOUD = Advice(
    cause="a public cloud delivers only addresses and MAC addresses that it has assigned itself",
    remedy="a macvlan does not work in most of them; assign the source address to the node's NIC "
    "and open its security group, or use a node on a network of your own",
)
NETWORK_DROPS = Advice(
    cause="the network's own firewall or security group drops it",
    remedy="have the security group of the node's NIC allow the source address, both ways",
)
PATH_MTU = Advice(
    cause="the outside network carries smaller packets than the link's MTU says",
    remedy="set EGRESS_MTU to what it carries (1500 where in doubt, less behind a tunnel)",
)
DNS_SERVERS_DOWN = Advice(
    cause="the cluster's DNS is down, or its Service has no endpoint",
    remedy="kubectl -n kube-system get pods,endpoints -l k8s-app=kube-dns (OpenShift: "
    "-n openshift-dns)",
)
DNS_POLICY = Advice(
    cause="a NetworkPolicy keeps this pod from the cluster's DNS",
    remedy="allow egress to port 53, UDP and TCP, of the DNS pods",
)
DNS_UPSTREAM = Advice(
    cause="the cluster's DNS answers, but cannot ask further: its own upstream fails or refuses",
    remedy="look at the log of the DNS pods, and at what they forward to",
)
DNS_MOVED = Advice(
    cause="/etc/resolv.conf names another server than it did when init ran",
    remedy="add its network to EGRESS_CLUSTER_CIDRS, or delete the pod, so that init runs again",
)
NO_NAMESERVER = Advice(
    cause="the pod has dnsPolicy None without nameservers, or an empty resolv.conf",
    remedy="use dnsPolicy ClusterFirst, or name the nameservers in dnsConfig",
)
NAME_WRONG = Advice(
    cause="the name is mistyped, or does not exist in the DNS that this pod asks",
    remedy="ask from the pod's node; private names need a forward zone in the cluster's DNS",
)
PORT_CLOSED = Advice(
    cause="the host is reached, and nothing listens on that port, or its firewall refuses",
    remedy="check the port; ask the partner whether the service runs",
)
NO_ROUTE = Advice(
    cause="the gateway, or a router behind it, has no route to the destination, or forbids it",
    remedy="ask the network's owner to route and permit it",
)
OWN_TABLE = Advice(
    cause="a rule of the pod itself forbids it",
    remedy="nft list ruleset, with NET_ADMIN; see who wrote what is not in table egress_router",
)


def gateway_wrong(gateway: object) -> Advice:
    """Nobody has the gateway's address."""
    return Advice(
        cause=f"no station has the address {gateway}: EGRESS_GATEWAY is wrong, or it is off",
        remedy="compare with the default route of another host of that network; change it in the "
        "pod's specification",
    )


def address_pairs(sources: object, mac: object) -> Advice:
    """OpenStack's port security."""
    return Advice(
        cause="OpenStack's port security does not know this address and MAC on the node's port",
        remedy=f"openstack port set --allowed-address ip-address={sources},mac-address={mac} PORT",
    )


def address_taken(holder: str) -> Advice:
    """Another station has the source."""
    return Advice(
        cause=f"two stations use one address: {holder}, and this pod",
        remedy="find it by its MAC address in the switch's table (a router pod on a node that was "
        "lost is the usual one); stop it, or give one of the two another EGRESS_SOURCE",
    )


def partner_firewall(source: object, target: str) -> Advice:
    """Silence from afar."""
    return Advice(
        cause="a firewall on the way, the partner's most of all, drops it without a word",
        remedy=f"ask for {source} to {target} to be let in; they can see in their log whether it "
        "arrives, and with which address",
    )


def way_back(source: object) -> Advice:
    """Answers that go elsewhere."""
    return Advice(
        cause=f"answers to {source} go elsewhere: another station uses it, or the way back is not "
        "routed to this network",
        remedy="see the check `conflict`; ask the network's owner where the address is routed to",
    )
