"""`linux.netDevices`: network devices of the creator's namespace that are moved into the container's.

What the spec wants kept comes along: the kernel keeps a device's hardware address and MTU, its addresses are given again
(only those that somebody set for good, with global scope). Inside it is up. Afterwards it is the namespace's: a
virtual device ends with it, a physical one goes back to the initial namespace, and nothing is moved back by us.

Source: runtime-spec 1.3 config-linux.md "Network Devices"; rtnetlink(7).
"""
from __future__ import annotations

import _socket
import os
from contextlib import contextmanager

from mydocker.base.errors import Conflict, Denied, InvalidRequest, MydockerError, NotFound
from mydocker.base.record import Record
from mydocker.base.undo import Undo
from mydocker.linux import netlink, netlink_moves

from . import sync

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mydocker.oci.runtime_spec import NetDevice


class Device(Record):
    """A device before it is moved: where it is from, and what of it the move takes away."""

    field: str
    name: str
    index: int
    is_up: bool
    addresses: tuple[bytes, ...]
    """Bodies of RTM_NEWADDR (netlink_moves.kept_addresses)."""


def ask_for_devices(channel: _socket.socket) -> None:
    """Have the creator of this init move the devices to its network namespace."""
    own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    sync.send(channel, sync.DEVICES, own)
    os.close(own)
    sync.receive(channel, sync.GO)


@contextmanager
def lend_devices(devices: Mapping[str, NetDevice], channel: _socket.socket) -> Iterator[None]:
    """Move the devices to the init that asks for them; when what is done then fails, they come back."""
    namespace_fd = sync.receive(channel, sync.DEVICES)
    try:
        with Undo() as undo:
            move_devices(devices, namespace_fd, undo)
            channel.send(sync.GO)
            yield
            undo.pop_all()
    finally:
        os.close(namespace_fd)


def move_devices(devices: Mapping[str, NetDevice], namespace_fd: int, undo: Undo) -> None:
    """Move devices of this process's network namespace into another one; `undo` gets what moves them back.

    The descriptor must stay open as long as that may be. Raises NotFound, Conflict, Denied, InvalidRequest by field.
    """
    for name, wanted in devices.items():
        field = f"linux.netDevices.{name}"
        try:
            with netlink.Route() as here, netlink.Route.inside(namespace_fd) as there:
                device = _find(here, name, field)
                _check_name_is_free(there, wanted.get("name") or name, field)
                index = _move(device, here, there, namespace_fd, wanted.get("name") or name)
            undo.callback(move_back, device, namespace_fd, index)
        except OSError as error:
            raise _refusal(field, error) from error


def move_back(device: Device, namespace_fd: int, index: int) -> None:
    """Undo `move_devices` for one device, whose number in the other namespace is `index`. Raises MydockerError."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with netlink.Route() as here, netlink.Route.inside(namespace_fd) as there:
            _move(device.replace(index=index), there, here, home, device.name, up=device.is_up)
    except OSError as error:
        raise _refusal(device.field, error) from error
    finally:
        os.close(home)


def _find(here: netlink.Route, name: str, field: str) -> Device:
    index = here.index_of(name)
    is_up = next(link.is_up for link in here.links() if link.index == index)
    # Before the device is down: that takes the IPv6 addresses away.
    return Device(field=field, name=name, index=index, is_up=is_up, addresses=tuple(netlink_moves.kept_addresses(here, index)))


def _check_name_is_free(there: netlink.Route, name: str, field: str) -> None:
    """See that no device has the name already: the kernel would move the device first and fail to rename it then."""
    if any(link.name == name for link in there.links()):
        raise Conflict(f"{field}: the container's network namespace has a device {name} already")


def _move(
    device: Device, source: netlink.Route, target: netlink.Route, target_fd: int, name: str, *, up: bool = True,
) -> int:
    """Move a device and rename it in one request; return its number in the target, which may be another one.

    `name` may be a pattern of the kernel's, such as `eth%d`.
    """
    before = {link.index for link in target.links()}
    # Down while it has neither its old place nor its new one: nobody is to send by it then.
    source.request(netlink.change_link(device.index, up=False))
    source.request(netlink_moves.move_link(device.index, target_fd, name))
    arrived = {link.index for link in target.links()} - before
    index = arrived.pop() if arrived else device.index  # it was there already: a namespace joined that is our own
    for body in device.addresses:
        target.request(netlink_moves.give_address(index, body))
    if up:
        target.request(netlink.change_link(index, up=True))
    return index


def _refusal(field: str, error: OSError) -> MydockerError:
    text = f"{field}: {error.strerror or error}"
    if isinstance(error, PermissionError):
        return Denied(text)
    return NotFound(text) if error.errno == 19 else InvalidRequest(text)  # ENODEV
