"""`mydocker build` and `builder prune`."""
from __future__ import annotations

import os

from mydocker.base.errors import InvalidRequest, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..context import Context


def run(context: Context) -> int:
    """Build an image and print its id; progress goes to standard error."""
    if context.arguments.verb.name == "builder-prune":
        count = context.engine.builds.prune()
        context.output.line(f"Forgot {count} entries of the build cache")
        return 0
    from mydocker.build.failed import CommandFailed  # cold: `mydocker help` reads this file, too

    from ..build_progress import choose_progress

    arguments = context.arguments
    options = arguments.engine_options()
    if arguments["provenance"] or arguments["sbom"]:
        raise Unsupported("build: attestations are not made", hint="leave --provenance and --sbom out")
    if "output" in options:
        if len(options["output"]) > 1:
            raise InvalidRequest("build: --output can be given once", hint="build again for another: everything is cached")
        options["output"] = options["output"][0]
    if arguments["push"]:
        if options.get("output"):
            raise InvalidRequest("build: --push and --output say both where the image goes", hint="--output type=registry pushes")
        options["output"] = "type=registry"
    is_on_stdout = bool(options.get("output")) and context.engine.builds.is_on_stdout(options["output"])
    if is_on_stdout and os.isatty(context.output.fd):
        raise InvalidRequest("build: standard output is a terminal", hint="write to a file: --output type=...,dest=FILE")
    kind = "quiet" if arguments["quiet"] else arguments["progress"]
    with choose_progress(context.output, kind) as progress:
        try:
            built = context.engine.builds.build(arguments.positionals[0], progress=progress, **options)
        except CommandFailed as error:
            progress.close()
            context.report(error)
            return error.exit_code
    if built.image_id:
        if arguments["iidfile"]:
            _write_id(arguments["iidfile"], built.image_id)
        if not is_on_stdout:
            context.output.line(built.image_id)
    return 0


def _write_id(path: str, image_id: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise InvalidRequest(f"write iidfile {path}: {(error.strerror or '').lower()}") from error
    with os.fdopen(fd, "w") as stream:
        stream.write(image_id)
