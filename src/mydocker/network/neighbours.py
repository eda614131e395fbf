"""Living beside other engines' firewalls: docker sets the policy of FORWARD to drop, which drops our packets, too.

Every table of nftables has its say: what ours accepts another may drop. So where packets are dropped by policy we add one chain,
MYDOCKER, that accepts what comes from or goes to one of our bridges (`mb...`, of every state root) and leaves alone what goes
to other engines' bridges: whether that may pass is theirs to say. It hangs in DOCKER-USER, which docker keeps for others'
rules, else in FORWARD. It never widens what our own table decides: that sees the packet as well.
"""
from __future__ import annotations

from mydocker.base import log
from mydocker.linux.nft import IPV6, find_program, run_program

from .firewall import NEIGHBOUR_CHAIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

#: Bridges of docker, podman (netavark and CNI), libvirt, Kubernetes' plugins.
_OTHERS = ("docker+", "br-+", "podman+", "cni+", "virbr+", "lxcbr+", "lxdbr+", "nerdctl+")
_WAIT = ("-w", "5")  # for docker, which holds the lock of iptables now and then


def open_forward(families: Iterable[int]) -> None:
    """Have the filter of the given families let our bridges' packets through; without iptables nothing can be done."""
    for family in families:
        program = find_program("ip6tables" if family == IPV6 else "iptables")
        if not program:
            log.debug("packets are dropped by another's policy, and there is no iptables to change that", family=family)
            continue
        _run(program, "-N", NEIGHBOUR_CHAIN)  # fails when it is there, emptied by somebody
        _run(program, "-F", NEIGHBOUR_CHAIN)
        for parent in ("DOCKER-USER", "FORWARD"):
            jump = (parent, "-j", NEIGHBOUR_CHAIN)
            if _run(program, "-C", *jump) or _run(program, "-I", *jump):
                break
        for name in _OTHERS:
            _run(program, "-A", NEIGHBOUR_CHAIN, "-o", name, "-j", "RETURN")
        # Last, because its rules are what tells a start that all is done.
        for direction in ("-i", "-o"):
            _run(program, "-A", NEIGHBOUR_CHAIN, direction, "mb+", "-j", "ACCEPT")


def _run(program: str, *words: str) -> bool:
    code, complaint = run_program([program, *_WAIT, *words])
    if code:
        log.debug("iptables", words=" ".join(words), error=complaint)
    return code == 0


def close_forward() -> None:
    """Remove what `open_forward` added."""
    for name in ("iptables", "ip6tables"):
        program = find_program(name)
        if not program or not _run(program, "-L", NEIGHBOUR_CHAIN, "-n"):
            continue
        for parent in ("DOCKER-USER", "FORWARD"):
            while _run(program, "-D", parent, "-j", NEIGHBOUR_CHAIN):
                pass
        _run(program, "-F", NEIGHBOUR_CHAIN)
        _run(program, "-X", NEIGHBOUR_CHAIN)
