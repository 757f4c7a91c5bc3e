"""Text for people: colours, tables, times, errors."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from bridge.formats.errors import BridgeError

__all__ = [
    "age",
    "clean",
    "counted",
    "dim",
    "duration",
    "number",
    "paint",
    "print_error",
    "print_json",
    "print_json_lines",
    "size",
    "table",
]

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36"}


def uses_colour(stream: TextIO) -> bool:
    """Whether colours are wanted: a terminal, and no NO_COLOR (no-color.org)."""
    if stream is None or os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def paint(text: str, style: str, stream: TextIO | None = None) -> str:
    """`text` in a colour, where the stream (standard error) shows colours."""
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if uses_colour(stream or sys.stderr) else text


def dim(text: str) -> str:
    return paint(text, "dim")


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_json_lines(values: Iterable[Any]) -> None:
    """A JSON list with a line for each of its values, which may be many."""
    between = "[\n"
    for value in values:
        sys.stdout.write(f"{between}{json.dumps(value, ensure_ascii=False)}")
        between = ",\n"
    print("\n]" if between == ",\n" else "[]")


def print_error(error: BridgeError) -> None:
    """One message: what, where, why, what to do."""
    failures = getattr(error, "failures", ())
    for failure in failures:
        print_error(failure)
    if not failures:
        for line in getattr(error, "log_tail", ()):
            print(dim(f"  │ {line}"), file=sys.stderr)
    print(f"{paint('error:', 'red')} {error}", file=sys.stderr)
    if error.hint:
        print(f"{paint('hint:', 'cyan')} {error.hint}", file=sys.stderr)


def table(rows: Sequence[Sequence[str]], header: Sequence[str], stream: TextIO | None = None) -> str:
    """Aligned columns; those that hold numbers only are aligned to the right."""
    stream = stream or sys.stdout
    columns = list(zip(header, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [bool(rows) and all(map(_is_number, column[1:])) for column in columns]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(cells, widths, right, strict=True)
        )
        return "  ".join(padded).rstrip()

    return "\n".join([paint(line(header), "dim", stream), *map(line, rows)])


def _is_number(cell: str) -> bool:
    return cell.lstrip("-").replace(".", "", 1).isdigit()


def number(value: Any) -> str:
    """A metric, short."""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e-3 or abs(value) >= 1e5 else f"{value:.4f}"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 24 else text[:23] + "…"


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds) // 60} min {int(seconds) % 60} s"
    return f"{int(seconds) // 3600} h {int(seconds) % 3600 // 60} min"


def age(started: float) -> str:
    """How long ago, in its largest unit."""
    seconds = max(0.0, time.time() - started)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit} ago"
    return f"{int(seconds)} s ago"


def clean(text: str) -> str:
    """A text as a terminal may show it: what is not printable, or no UTF-8, as an escape."""
    if text.isprintable():
        return text
    return "".join(
        char
        if char.isprintable()
        else f"\\x{ord(char) - 0xDC00:02x}"
        if 0xDC80 <= ord(char) <= 0xDCFF
        else char.encode("unicode_escape").decode()
        for char in text
    )


def counted(count: int, what: str) -> str:
    """So many of something that is put in the plural by an s."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def size(count: int) -> str:
    """A number of bytes in binary units."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
