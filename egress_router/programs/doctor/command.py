"""`egress-router doctor`: tests this pod from the inside and says what is wrong, why, what to do.

1. Nothing is changed. What is sent: one ARP or ND round with CAP_NET_RAW, a connection to an
   unserved port of the gateway, pings to it, a query to each nameserver, a connection to each
   destination that was asked for.
2. All of it together takes `LIMIT_S` at most; what is not known by then is not tested.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

from egress_router.config import variables
from egress_router.diagnosis.facts import Facts, Untested
from egress_router.diagnosis.judge import judge
from egress_router.diagnosis.report import is_sound, render_document, render_report
from egress_router.kernel.capability import observe_capabilities
from egress_router.kernel.host import observe_nameservers
from egress_router.programs.doctor import inside, link, names
from egress_router.programs.doctor.together import Together

if TYPE_CHECKING:
    from collections.abc import Sequence

    from egress_router.config.settings import Environment

LIMIT_S = 15.0
EXIT_SOUND, EXIT_UNSOUND = 0, 1
_EPILOG = """\
exit codes: 0 nothing failed (warnings, and what could not be tested, do not count),
            1 something failed, 2 wrong call
"""


def run_doctor(environment: Environment, arguments: Sequence[str]) -> int:
    """Prints the findings; 0 if nothing failed, else 1."""
    options = _parser().parse_args(arguments)
    started = time.monotonic()
    facts = gather(environment, tuple(options.to), deadline=started + LIMIT_S)
    findings = judge(facts)
    took_s = time.monotonic() - started
    if options.json:
        document = render_document(facts.place, findings, took_s)
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        sys.stdout.write(render_report(facts.place, findings, took_s))
    return EXIT_SOUND if is_sound(findings) else EXIT_UNSOUND


def gather(environment: Environment, targets: tuple[str, ...], *, deadline: float) -> Facts:
    """Every fact that can be had before the deadline."""
    interface = environment.get(variables.INTERFACE)
    looking = Together([partial(inside.observe_namespace, interface)])
    asking = Together([inside.ask_daemons])
    (space,), (asked,) = looking.results(deadline), asking.results(deadline)
    documents, silent = ({}, (asked.why,)) if isinstance(asked, Untested) else asked
    place = inside.find_place(environment, space, documents)
    found = None if isinstance(space, Untested) else space.observed.link(place.link)
    raw = "CAP_NET_RAW" in observe_capabilities()
    mac, mtu = (found.mac, found.mtu) if found else (None, 0)
    usable = found is not None and found.up and found.carrier
    gateways = place.gateways if usable else ()
    name = _query_name(targets)
    holders = Together([partial(link.probe_holders, place, mac, raw=raw)])
    answering = Together([partial(link.probe_gateway, place, g, mac, raw=raw) for g in gateways])
    sizes = Together([partial(link.probe_size, place, g, mtu, raw=raw) for g in gateways])
    servers = Together([partial(names.probe_nameserver, s, name) for s in observe_nameservers()])
    reached = Together(
        [partial(names.probe_target, place, environment, t, deadline) for t in targets]
        if usable
        else []
    )
    return Facts(
        place=place,
        namespace=space,
        daemons=tuple(map(inside.read_daemon, documents.values())),
        silent_daemons=silent,
        mistyped=variables.unknown_variables(environment.variables),
        holders=holders.results(deadline)[0],
        gateways=answering.results(deadline),
        sizes=sizes.results(deadline),
        nameservers=servers.results(deadline),
        targets=reached.results(deadline),
    )


def _query_name(targets: tuple[str, ...]) -> str:
    """What the nameservers are asked for: the first destination that is a name."""
    hosts = (names.split_target(target)[0] for target in targets)
    return next((host for host in hosts if not _is_address(host)), names.USUAL_NAME)


def _is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()


def _target(text: str) -> str:
    try:
        names.split_target(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="egress-router doctor",
        description="tests this pod's router from the inside: what is wrong, why, and what to do",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--to",
        action="append",
        type=_target,
        default=[],
        metavar="HOST:PORT",
        help="also connect there, from the source address; may be given several times",
    )
    parser.add_argument("--json", action="store_true", help="one object instead of text")
    return parser
