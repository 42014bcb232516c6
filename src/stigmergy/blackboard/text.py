"""How numbers, artifacts, tables and trees read; shared by everything that is shown."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from html import escape
from unicodedata import combining, east_asian_width

from pydantic import JsonValue, ValidationError

_TOLD = (
    "description",
    "title",
    "summary",
    "name",
    "text",
    "subject",
    "question",
    "what",
    "message",
    "label",
    "option",
    "reason",
    "plan",
    "path",
)
_DEEPEST = 20
_JUDGED = ("approved", "passed", "accepted", "success", "ok")


def problems(error: ValidationError) -> str:
    """All that is wrong, each with its field: `then: Field required; cost: …`."""
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'it'}: {e['msg']}" for e in error.errors())


def seconds(value: float) -> str:
    """A duration as people say it: `0.3 ms`, `12 ms`, `2.1 s`, `3 min 5 s`, `2 h 10 min`."""
    if value < 0.00005:
        return "<0.1 ms"
    if value < 0.001:
        return f"{value * 1000:.1f} ms"
    if value < 0.0995:
        return f"{value * 1000:.0f} ms"
    if value < 119.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 7200:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def when(at: float) -> str:
    """A log time, in UTC."""
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):  # who wants to try again may name any number of seconds
        return "a time beyond all dates"


def money(value: Decimal, *, places: int = 3) -> str:
    """Dollars; small sums keep two significant digits, so that nothing that was paid reads as zero."""
    if value and abs(value) < Decimal(10) ** -places:
        return f"${value.quantize(Decimal(1).scaleb(value.adjusted() - 1)):f}"
    return f"${value:,.2f}" if places == 2 or value >= 1 or not value else f"${value:,.{places}f}"


def number(count: int, noun: str, plural: str = "") -> str:
    """`1 seed`, `37 artifacts`, `1,204 rows`."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


_COMMANDS = {c: f"\\x{c:02x}" for c in (*range(32), *range(127, 160)) if chr(c) not in "\n\t"} | {
    c: f"\\u{c:04x}" for c in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
}
"""Characters that a terminal obeys instead of showing them, some by writing backwards, as they are written in code."""


def plain(text: str) -> str:
    """The text as it is safe to print: it may come from anywhere, and a terminal does what it is told."""
    return text if text.isprintable() else text.translate(_COMMANDS)


def short(text: str, width: int = 60) -> str:
    """One line of at most `width` characters, safe to print."""
    flat = plain(" ".join(text[: 4 * width].split()))
    return flat if len(flat) <= width and len(text) <= 4 * width else flat[: width - 1].rstrip() + "…"


def title(payload: str, width: int = 48) -> str:
    """What an artifact is about, in a few words, from its JSON: a verdict, a description, or its first field.

    Args:
        payload: the artifact as JSON text.
        width: how many characters a quoted text may take.
    """
    try:
        value: JsonValue = json.loads(payload)
    except ValueError:
        return ""
    if not isinstance(value, dict):
        return _scalar(value, width)
    for key in _JUDGED:
        if isinstance(value.get(key), bool):
            return key if value[key] else f"not {key}"
    for key in _TOLD:
        text = value.get(key)
        if isinstance(text, str) and text.strip():
            return f'"{short(text, width)}"'
    for key, field in value.items():
        if isinstance(field, str | int | float) and field != "":
            return f"{key}={_scalar(field, width)}"
    return ""


def _scalar(value: JsonValue, width: int) -> str:
    return f'"{short(value, width)}"' if isinstance(value, str) else short(json.dumps(value), width)


def table(rows: Sequence[Sequence[str]], *, indent: str = "  ", right: Iterable[int] = ()) -> list[str]:
    """Lines of aligned columns, two spaces apart.

    Args:
        rows: cells; a column that is empty in all of them takes no room.
        right: the numbers of the columns to align right.
    """
    if not rows:
        return []
    widths = [max(_columns(row[i]) for row in rows) for i in range(len(rows[0]))]
    to_the_right = set(right)
    lines = []
    for row in rows:
        cells = []
        for i, (cell, width) in enumerate(zip(row, widths, strict=True)):
            if width:
                pad = " " * (width - _columns(cell))
                cells.append(pad + cell if i in to_the_right else cell + pad)
        lines.append((indent + "  ".join(cells)).rstrip())
    return lines


def _columns(text: str) -> int:
    """How many columns of a terminal it takes: some letters take two, some signs none."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def guides(parents: Sequence[int]) -> list[str]:
    """What stands left of the nodes of trees; beyond `_DEEPEST` levels a number takes the place of more indentation.

    Args:
        parents: for every node, in the order of the lines, the place of its parent in this list; -1 for a root.
    """
    last = {parent: i for i, parent in enumerate(parents)}
    stems: list[str] = []
    levels: list[int] = []
    found: list[str] = []
    for i, parent in enumerate(parents):
        above, level = (stems[parent], levels[parent] + 1) if parent >= 0 else ("", 0)
        levels.append(level)
        if level > _DEEPEST:
            found.append(f"{above}{level}: ")
            stems.append(above)
            continue
        found.append("" if parent < 0 else above + ("└─ " if last[parent] == i else "├─ "))
        stems.append("" if parent < 0 else above + ("   " if last[parent] == i else "│  "))
    return found


def html_table(rows: Sequence[Sequence[str]], *, head: bool = True) -> str:
    """An HTML table of escaped cells; the first row is its head."""
    parts = ["<table>"]
    for i, row in enumerate(rows):
        tag = "th" if head and i == 0 else "td"
        parts.append("<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row) + "</tr>")
    return "".join([*parts, "</table>"])
