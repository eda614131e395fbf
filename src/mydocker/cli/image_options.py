"""The options of the verbs of images: rows as in options.py, read by these verbs only."""
from __future__ import annotations

from .build_options import BUILD_OPTIONS
from .options import Option

_CHANGE = "A line of a Dockerfile: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR"

IMAGE_OPTIONS = (
    Option("commit", "author", "a", "str", "Author of the image", value="TEXT", lands="author"),
    Option("commit import", "change", "c", "list", _CHANGE, value="LINE", lands="change"),
    Option("commit", "message", "m", "str", "Comment of the image", value="TEXT", lands="message"),
    Option("commit", "pause", "p", "bool", "Freeze the container meanwhile", lands="pause", default=True),
    Option("cp", "archive", "a", "bool", "Keep the owners of files (default: root in a container, the caller on the host)"),
    Option("cp", "follow-link", "L", "bool", "Copy what a link at the end of the source leads to, not the link"),
    Option("cp", "quiet", "q", "bool", "Show no progress; there is none without a terminal"),
    Option("export", "output", "o", "str", "Write to a file instead of standard output", value="FILE", default=""),

    Option("images", "all", "a", "bool", "Accepted for docker's sake: there are no hidden images"),
    Option("images", "digests", "", "bool", "Show digests of manifests"),
    Option("images", "filter", "f", "list",
           "Only what matches: dangling=, label=, before=, since=, until= or reference=", value="KEY=VALUE"),
    Option("images history", "format", "", "str", "Output as table, json, or a Go template such as '{{.ID}}'",
           value="FORMAT", default="table"),
    Option("images history", "no-trunc", "", "bool", "Do not shorten columns"),
    Option("images history", "quiet", "q", "bool", "Only ids"),
    Option("history", "human", "H", "bool", "Ages and sizes for people; false: times and bytes", default=True),

    Option("rmi", "force", "f", "bool", "Also what containers use or what has several names; no error for what is gone"),
    Option("rmi", "no-prune", "", "bool", "Accepted for docker's sake: images have no parents here"),
    Option("import", "message", "m", "str", "Comment of the image", value="TEXT", lands="message"),
    Option("import", "platform", "", "str", "Platform that the image is for (default: this machine's)",
           value="PLATFORM", lands="platform"),
    Option("pull push", "all-tags", "a", "bool", "Every tag of the repository"),
    Option("pull push", "quiet", "q", "bool", "Print only the name"),
    Option("pull push build", "disable-content-trust", "", "bool",
           "Accepted for docker's sake: signatures of Notary are not asked for", default=True),
    Option("push", "with", "", "list", "Push a manifest list: the image, and this one for another platform", value="IMAGE"),
    Option("pull", "platform", "", "str", "Platform of the image, such as linux/arm64 (default: this machine's)",
           value="PLATFORM", default=""),
    Option("login", "username", "u", "str", "User name", value="NAME", default=""),
    Option("login", "password", "p", "str", "Password (others see it in the list of processes: better --password-stdin)",
           value="TEXT"),
    Option("login", "password-stdin", "", "bool", "Read the password from standard input"),
    Option("pull push login", "insecure-registry", "", "list", "Registry that may do without TLS or a good certificate",
           value="HOST[:PORT]"),
    Option("load", "input", "i", "str", "Read the archive from a file instead of standard input",
           value="FILE", default="-"),
    Option("load", "quiet", "q", "bool", "Print only the names"),
    Option("load save", "platform", "", "str", "The platform to take, such as linux/arm64 (default: this machine's)",
           value="PLATFORM", default=""),
    Option("save", "output", "o", "str", "Write to a file, or a directory, instead of standard output",
           value="FILE", default=""),
    Option("save", "format", "", "str", "docker-archive (which is an OCI archive, too), oci-archive or oci-dir",
           value="FORMAT", default="docker-archive"),
    Option("save", "quiet", "q", "bool", "Accepted for podman's sake"),

    Option("image-prune system-prune", "all", "a", "bool", "All images that no container uses, not only those without a name"),
    Option("image-prune system-prune", "filter", "", "list", "Only what matches: until=, label= or label!=",
           value="KEY=VALUE"),
    Option("image-prune system-prune", "force", "f", "bool", "Accepted for docker's sake: nothing is asked"),
    Option("system-prune", "volumes", "", "bool", "Anonymous volumes that no container has, too"),
    Option("system-df", "verbose", "v", "bool", "Each image and each container"),
    Option("system-df", "format", "", "str", "Output as table, json, or a Go template such as '{{.Type}}'",
           value="FORMAT", default="table"),
    *BUILD_OPTIONS,
)
