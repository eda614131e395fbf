"""--chown and --chmod of COPY and ADD: the mode octal, or symbolic as chmod(1) has it. Pure."""
from __future__ import annotations

import stat

from mydocker.base.errors import InvalidRequest
from mydocker.base.record import Record


class ModeChange(Record):
    """--chmod: an octal number, or symbolic clauses as chmod(1) has them."""

    text: str

    def apply(self, mode: int) -> int:
        """Return the permission bits of a file that has type and bits `mode`."""
        import re  # cold

        if self.text.isdigit():
            return int(self.text, 8)
        bits = stat.S_IMODE(mode)
        for clause in self.text.split(","):
            match = re.fullmatch(r"([ugoa]*)((?:[-+=][rwxXst]*)+)", clause)
            assert match is not None  # judged by parse_mode
            who = match[1] or "a"
            who = "ugo" if "a" in who else who
            for sign, letters in re.findall(r"([-+=])([rwxXst]*)", match[2]):
                bits = _changed(bits, who, sign, letters, is_directory=stat.S_ISDIR(mode))
        return bits


class Ownership(Record):
    """Who owns what is copied, and its mode; None: as in the source."""

    owner: tuple[int, int] | None = None
    mode: ModeChange | None = None


def parse_mode(text: str) -> ModeChange:
    """Return what --chmod=TEXT means. Raises InvalidRequest."""
    import re  # cold

    if re.fullmatch(r"[0-7]{1,5}", text) and int(text, 8) <= 0o7777:
        return ModeChange(text=text)
    if all(re.fullmatch(r"[ugoa]*(?:[-+=][rwxXst]*)+", clause) for clause in text.split(",")):
        return ModeChange(text=text)
    raise InvalidRequest(f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777")


def _changed(bits: int, who: str, sign: str, letters: str, *, is_directory: bool) -> int:
    shifts = {"u": 6, "g": 3, "o": 0}
    value = mask = 0
    for person in who:
        shift = shifts[person]
        mask |= 0o7 << shift
        for letter in letters:
            if letter in "rwx":
                value |= {"r": 4, "w": 2, "x": 1}[letter] << shift
            elif letter == "X" and (is_directory or bits & 0o111):
                value |= 1 << shift
            elif letter == "s" and person in "ug":
                value |= 0o4000 if person == "u" else 0o2000
    if "t" in letters:
        value |= 0o1000
    if sign == "+":
        return bits | value
    return bits & ~value if sign == "-" else bits & ~mask | value
