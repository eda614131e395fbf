"""Labels of Linux security modules in a spec: judged before anything is made, and put on mounts.

Imported only for specs that have one. Writing a process' label is the last stage's (csrc/init/labels.h).
"""
from __future__ import annotations

from mydocker.base.errors import InvalidRequest, Unsupported
from mydocker.linux.lsm import is_selinux_enabled, judge_labels

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.oci.runtime_spec import Mount, Process, Spec

#: Whose files take their label from the mount; those of procfs, sysfs, mqueue and cgroups have labels of the policy's.
_LABELLED = ("tmpfs", "devpts", "ramfs", "overlay")


def check_process_labels(process: Process) -> None:
    """Judge process.apparmorProfile and process.selinuxLabel. Raises Unsupported, InvalidRequest by field."""
    judge_labels(process.get("apparmorProfile", ""), process.get("selinuxLabel", ""))


def label_mounts(spec: Spec) -> Spec:
    """Return the spec with linux.mountLabel as an option of its mounts. Raises Unsupported, InvalidRequest."""
    label = spec.get("linux", {}).get("mountLabel", "")
    if not label:
        return spec
    if "\0" in label or "\n" in label:
        raise InvalidRequest(f"linux.mountLabel: {label[:80]!r} is not a label")
    if not is_selinux_enabled():
        raise Unsupported(f"linux.mountLabel: {label}: SELinux is not enabled on this machine")
    # Without the quotes that mount(2) wants around the commas of a label: fsconfig(2) takes an option as it is.
    return {**spec, "mounts": [_label(mount, f"context={label}") for mount in spec.get("mounts") or ()]}


def _label(mount: Mount, option: str) -> Mount:
    if mount.get("type") not in _LABELLED:
        return mount
    return {**mount, "options": [*(mount.get("options") or ()), option]}
