"""The options of `network ...`, and with them those of `volume ...`: rows as in options.py, read by these verbs only."""
from __future__ import annotations

from .options import Option
from .volume_options import VOLUME_OPTIONS

GROUP_OPTIONS = (
    Option("network-create", "driver", "d", "str", "Driver: bridge, macvlan or ipvlan", value="DRIVER", lands="driver",
           default="bridge"),
    Option("network-create", "subnet", "", "list", "Subnet, one of IPv4 and one of IPv6 (default: a free one)",
           value="SUBNET", lands="subnet"),
    Option("network-create", "ip-range", "", "list", "Part of the subnet that containers get addresses of",
           value="RANGE", lands="ip_range"),
    Option("network-create", "gateway", "", "list", "Gateway (default: the subnet's first address)",
           value="ADDRESS", lands="gateway"),
    Option("network-create", "internal", "", "bool", "No way out of the network", lands="internal"),
    Option("network-create", "ipv6", "", "bool", "IPv6, too (a subnet is chosen if none is given)", lands="ipv6"),
    Option("network-create", "label", "", "list", "Set a label: KEY=VALUE", value="LABEL", lands="label"),
    Option("network-create", "opt", "o", "list",
           "Option of the driver: com.docker.network.driver.mtu, parent, macvlan_mode, ipvlan_mode",
           value="KEY=VALUE", lands="opt"),
    Option("network-create", "attachable", "", "bool", "Accepted for docker's sake: every network is"),

    Option("network-ls", "filter", "f", "list",
           "Only what matches: name=, id=, driver=, label=, scope=, type=custom|builtin or dangling=",
           value="KEY=VALUE"),
    Option("network-ls", "format", "", "str", "Output as table, json, or a Go template such as '{{.Name}}'",
           value="FORMAT", default="table"),
    Option("network-ls", "quiet", "q", "bool", "Only ids"),
    Option("network-ls", "no-trunc", "", "bool", "Accepted for docker's sake: ids are short"),

    Option("network-inspect", "format", "f", "str", "Output as json or a Go template such as '{{.Id}}'",
           value="FORMAT", default="json"),
    Option("network-inspect", "verbose", "v", "bool", "Accepted for docker's sake"),

    Option("network-rm", "force", "f", "bool", "No error for what does not exist"),
    Option("network-prune", "filter", "", "list", "Only what matches: label=, label!= or until=", value="KEY=VALUE"),
    Option("network-prune", "force", "f", "bool", "Accepted for docker's sake: nothing is asked"),

    Option("network-connect", "ip", "", "str", "Fixed IPv4 address", value="ADDRESS", lands="ip"),
    Option("network-connect", "ip6", "", "str", "Fixed IPv6 address", value="ADDRESS", lands="ip6"),
    Option("network-connect", "mac-address", "", "str", "Hardware address of the device", value="MAC", lands="mac"),
    Option("network-connect", "alias", "", "list", "One more name of the container there", value="NAME", lands="alias"),
    Option("network-disconnect", "force", "f", "bool", "Also from a network that is not there any more"),
    *VOLUME_OPTIONS,
)
