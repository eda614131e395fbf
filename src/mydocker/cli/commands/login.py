"""`mydocker login`."""
from __future__ import annotations

import os

from mydocker.base.errors import InvalidRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..context import Context

_MAX_PASSWORD_BYTES = 1 << 16


def run(context: Context) -> int:
    """Keep a user name and a password for a registry, once the registry took them."""
    arguments, output = context.arguments, context.output
    server = arguments.positionals[0] if arguments.positionals else ""
    if arguments["password_stdin"] and arguments["password"] is not None:
        raise InvalidRequest("login: --password and --password-stdin exclude each other")
    if arguments["password_stdin"] and not arguments["username"]:
        raise InvalidRequest("login: --password-stdin needs --username", hint="mydocker login -u NAME --password-stdin")
    if arguments["password"] is not None:
        output.write_error_bytes(b"WARNING: --password shows the password to others on this machine: use --password-stdin\n")
    insecure = arguments["insecure_registry"] or ()
    if not arguments["username"] and arguments["password"] is None and context.engine.login_again(server, insecure=insecure):
        output.line("Authenticating with existing credentials...\nLogin Succeeded")
        return 0
    username = arguments["username"] or _ask("Username: ", is_secret=False)
    if arguments["password_stdin"]:
        password = _read_password()
    elif arguments["password"] is not None:
        password = arguments["password"]
    else:
        password = _ask("Password: ", is_secret=True)
    if not password:
        raise InvalidRequest("login: the password is empty")
    place = context.engine.login(server, username, password, insecure=insecure)
    if place.startswith("/"):
        output.write_error_bytes(
            f"WARNING: the password is kept unencrypted in {place}; a credential helper keeps it better\n".encode())
    output.line("Login Succeeded")
    return 0


def _read_password() -> str:
    data = b""
    while len(data) <= _MAX_PASSWORD_BYTES and (more := os.read(0, 1 << 12)):
        data += more
    if len(data) > _MAX_PASSWORD_BYTES:
        raise InvalidRequest(f"login: a password of more than {_MAX_PASSWORD_BYTES} bytes")
    return data.decode("utf-8", "surrogateescape").removesuffix("\n").removesuffix("\r")


def _ask(prompt: str, *, is_secret: bool) -> str:
    """Ask whoever sits at the terminal."""
    if not os.isatty(0):
        raise InvalidRequest(
            f"login: {prompt.partition(':')[0].lower()} needed, and standard input is no terminal",
            hint="mydocker login -u NAME --password-stdin")
    if is_secret:
        import getpass  # cold

        try:
            return getpass.getpass(prompt)
        except EOFError:  # Ctrl-D
            os.write(2, b"\n")
            return ""
    os.write(2, prompt.encode())
    return os.read(0, 1 << 12).decode("utf-8", "surrogateescape").strip()
