"""A small layered drawing of a directed graph, from left to right, as SVG.

The usual four steps: turn the arrows that close a cycle, put every box in a layer right of all that lead to it, order
the boxes of each layer so that few lines cross, and move them towards what they are connected with. An arrow over
several layers gets a point in each. No randomness: the same graph is always drawn the same way.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from math import log10

_GAP_X, _GAP_Y, _POINT_Y = 76.0, 22.0, 16.0
_HEIGHT, _MARGIN, _TITLE = 46.0, 24.0, 34.0
_SWEEPS = 24
_COLOURS = {
    "type": ("#eaf2ff", "#5b8def"), "agent": ("#fff3dc", "#d9921a"), "component": ("#f1ecff", "#8b6fd0"),
    "outside": ("#f3f4f6", "#9aa0a8"),
}  # fmt: skip
_FONT = "font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif"


@dataclass(frozen=True, slots=True)
class Box:
    """A node: its kind chooses colour and corners; an alarming note is red."""

    kind: str
    label: str
    note: str
    alarming: bool = False


@dataclass(frozen=True, slots=True)
class Arrow:
    """An edge between two places in the list of boxes; `count` is written on it."""

    source: int
    target: int
    count: int


@dataclass(slots=True)
class _Spot:
    """A box, or a point where a long arrow passes a layer (`box` is None)."""

    box: Box | None
    layer: int
    width: float = 0.0
    height: float = _POINT_Y
    x: float = 0.0
    y: float = 0.0
    left: list["_Spot"] = field(default_factory=list)
    right: list["_Spot"] = field(default_factory=list)


@dataclass(slots=True)
class _Line:
    """An arrow as laid out: spots from left to right; `back` = it really points to the left."""

    arrow: Arrow
    spots: list[_Spot]
    back: bool


def draw(boxes: Sequence[Box], arrows: Sequence[Arrow], title: str) -> str:
    """The graph as an SVG document.

    Args:
        boxes: nodes; where an order is open, they are drawn in this one.
        arrows: edges between their places in the list.
        title: written above.
    """
    turned = _turned(len(boxes), arrows)
    layers = _layers(len(boxes), arrows, turned)
    spots = [_Spot(box, layer, _width(box), _HEIGHT) for box, layer in zip(boxes, layers, strict=True)]
    columns: list[list[_Spot]] = [[] for _ in range(max(layers, default=0) + 1)]
    for spot in spots:
        columns[spot.layer].append(spot)
    lines = [_line(spots, columns, arrow, back=i in turned) for i, arrow in enumerate(arrows)]
    _order(columns)
    _place(columns)
    return _svg(spots, lines, columns, title)


def _turned(count: int, arrows: Sequence[Arrow]) -> set[int]:
    """The arrows that close a cycle when one walks from the first box on."""
    leaving: list[list[int]] = [[] for _ in range(count)]
    for i, arrow in enumerate(arrows):
        leaving[arrow.source].append(i)
    entered: set[int] = set()
    on_path: set[int] = set()
    turned: set[int] = set()
    arriving = {a.target for a in arrows}
    for start in sorted(range(count), key=lambda n: (n in arriving, n)):
        if start in entered:
            continue
        entered.add(start)
        on_path.add(start)
        walk = [(start, iter(leaving[start]))]
        while walk:
            node, rest = walk[-1]
            edge = next(rest, None)
            if edge is None:
                on_path.discard(node)
                walk.pop()
                continue
            target = arrows[edge].target
            if target in on_path:
                turned.add(edge)
            elif target not in entered:
                entered.add(target)
                on_path.add(target)
                walk.append((target, iter(leaving[target])))
    return turned


def _layers(count: int, arrows: Sequence[Arrow], turned: set[int]) -> list[int]:
    """Each box one layer right of the last one that leads to it."""
    leads: list[list[int]] = [[] for _ in range(count)]
    waits = [0] * count
    for i, a in enumerate(arrows):
        source, target = (a.target, a.source) if i in turned else (a.source, a.target)
        if source != target:
            leads[source].append(target)
            waits[target] += 1
    layers = [0] * count
    ready = [n for n in range(count) if not waits[n]]
    while ready:
        node = ready.pop(0)
        for target in leads[node]:
            layers[target] = max(layers[target], layers[node] + 1)
            waits[target] -= 1
            if not waits[target]:
                ready.append(target)
    return layers


def _line(spots: Sequence[_Spot], columns: list[list[_Spot]], arrow: Arrow, *, back: bool) -> _Line:
    first, last = spots[arrow.source], spots[arrow.target]
    if first.layer > last.layer:
        first, last = last, first
    path = [first]
    for layer in range(first.layer + 1, last.layer):
        point = _Spot(None, layer)
        columns[layer].append(point)
        path.append(point)
    path.append(last)
    for a, b in pairwise(path):
        a.right.append(b)
        b.left.append(a)
    return _Line(arrow, path, back)


def _order(columns: list[list[_Spot]]) -> None:
    """Sort each layer by the mean place of its neighbours, sweeping to and fro."""
    for sweep in range(_SWEEPS):
        forward = sweep % 2 == 0
        for column in columns[1:] if forward else columns[-2::-1]:
            sides = [spot.left if forward else spot.right for spot in column]
            means = {
                id(spot): sum(n.y for n in side) / len(side) if side else spot.y
                for spot, side in zip(column, sides, strict=True)
            }
            column.sort(key=lambda spot: means[id(spot)])
            for i, spot in enumerate(column):
                spot.y = float(i) - len(column) / 2


def _place(columns: list[list[_Spot]]) -> None:
    x = _MARGIN
    for column in columns:
        width = max((spot.width for spot in column), default=0.0)
        for spot in column:
            spot.x = x + width / 2
            if spot.box is None:
                spot.width = width
        x += width + _GAP_X
        _spread(column, [spot.y * (_HEIGHT + _GAP_Y) for spot in column])
    for sweep in range(_SWEEPS):
        for column in columns if sweep % 2 else reversed(columns):
            wanted = []
            for spot in column:
                near = [*spot.left, *spot.right]
                wanted.append(sum(n.y for n in near) / len(near) if near else spot.y)
            _spread(column, wanted)


def _spread(column: list[_Spot], wanted: list[float]) -> None:
    """Put a layer's spots as near as possible to where they want to be, in their order and without overlaps.

    Spots that would overlap form a block that moves as one, to the mean of what its members want.
    """
    blocks: list[tuple[float, list[_Spot], list[float]]] = []
    for spot, y in zip(column, wanted, strict=True):
        members, offsets = [spot], [0.0]
        at = y
        while blocks:
            above_at, above, above_offsets = blocks[-1]
            step = above_offsets[-1] + _distance(above[-1], members[0])
            if above_at + step <= at:
                break
            blocks.pop()
            total = len(above) + len(members)
            at = (above_at * len(above) + (at - step) * len(members)) / total
            offsets = [*above_offsets, *(step + o for o in offsets)]
            members = [*above, *members]
        blocks.append((at, members, offsets))
    for at, members, offsets in blocks:
        for spot, offset in zip(members, offsets, strict=True):
            spot.y = at + offset


def _distance(above: _Spot, below: _Spot) -> float:
    gap = _GAP_Y if above.box is not None and below.box is not None else _GAP_Y * 0.6
    return (above.height + below.height) / 2 + gap


def _width(box: Box) -> float:
    return max(_text_width(box.label, 7.6), _text_width(box.note, 6.1)) + 30.0


def _text_width(text: str, per_letter: float) -> float:
    return sum(per_letter * (1.9 if ord(c) > 0x2E80 else 1.0) for c in text)


def _svg(spots: Sequence[_Spot], lines: Sequence[_Line], columns: list[list[_Spot]], title: str) -> str:
    every = [spot for column in columns for spot in column]
    top = min((s.y - s.height / 2 for s in every), default=0.0) - _MARGIN - _TITLE
    for spot in every:
        spot.y -= top
    width = max((s.x + s.width / 2 for s in every), default=0.0) + _MARGIN
    width = max(width, _text_width(title, 8.0) + 2 * _MARGIN)
    height = max((s.y + s.height / 2 for s in every), default=_TITLE) + _MARGIN
    ports = _ports(lines)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" style="{_FONT}" role="img">',
        f"<title>{escape(title)}</title>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7.2" refY="4" markerWidth="7" markerHeight="7" '
        'markerUnits="userSpaceOnUse" orient="auto"><path d="M0,0.6 L8,4 L0,7.4 Z" fill="#6b7280"/></marker></defs>',
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>',
        f'<text x="{_MARGIN:.0f}" y="28" font-size="15" font-weight="600" fill="#1f2937">{escape(title)}</text>',
    ]
    parts += [_path(line, ports[i]) for i, line in enumerate(lines)]
    parts += [_count(line, ports[i]) for i, line in enumerate(lines)]
    parts += [_box(spot) for spot in spots]
    return "\n".join([*parts, "</svg>"])


def _ports(lines: Sequence[_Line]) -> list[tuple[float, float]]:
    """Where each line leaves its left box and enters its right one: spread over the side, in the order of the other
    ends, so that lines neither meet nor cross at a box."""
    sides: dict[tuple[int, str], list[tuple[float, bool, int]]] = {}
    for i, line in enumerate(lines):
        first, last = line.spots[0], line.spots[-1]
        sides.setdefault((id(first), "right"), []).append((line.spots[1].y if len(line.spots) > 1 else 0, line.back, i))
        sides.setdefault((id(last), "left"), []).append((line.spots[-2].y if len(line.spots) > 1 else 0, line.back, i))
    offsets: dict[tuple[int, str], float] = {}
    for (_, side), ends in sides.items():
        step = min(12.0, (_HEIGHT - 14.0) / max(1, len(ends) - 1))
        for place, (_, _, i) in enumerate(sorted(ends)):
            offsets[i, side] = (place - (len(ends) - 1) / 2) * step
    return [
        (line.spots[0].y + offsets[i, "right"], line.spots[-1].y + offsets[i, "left"]) for i, line in enumerate(lines)
    ]


def _points(line: _Line, ports: tuple[float, float]) -> list[tuple[float, float]]:
    first, last = line.spots[0], line.spots[-1]
    inner = [(spot.x + side * spot.width / 2, spot.y) for spot in line.spots[1:-1] for side in (-1, 1)]
    return [(first.x + first.width / 2, ports[0]), *inner, (last.x - last.width / 2, ports[1])]


def _path(line: _Line, ports: tuple[float, float]) -> str:
    points = _points(line, ports)
    if line.back:
        points.reverse()
    path = f"M{points[0][0]:.1f},{points[0][1]:.1f}"
    for (x1, y1), (x2, y2) in pairwise(points):
        bend = (x1 + x2) / 2
        path += f" C{bend:.1f},{y1:.1f} {bend:.1f},{y2:.1f} {x2:.1f},{y2:.1f}"
    weight = min(4.0, 1.2 + log10(max(1, line.arrow.count)))
    colour, dashes = ("#b45309", ' stroke-dasharray="5 3"') if line.back else ("#9ca3af", "")
    return (
        f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{weight:.1f}"{dashes} marker-end="url(#head)"/>'
    )


def _count(line: _Line, ports: tuple[float, float]) -> str:
    points = _points(line, ports)
    (x1, y1), (x2, y2) = points[len(points) // 2 - 1], points[len(points) // 2]
    text = (
        f'<text x="{(x1 + x2) / 2:.1f}" y="{(y1 + y2) / 2 + 3.5:.1f}" font-size="10.5" text-anchor="middle" '
        f'fill="#374151"%s>{line.arrow.count:,}</text>'
    )
    # Written twice, first as a white rim: not every program that shows SVG knows `paint-order`.
    return text % ' stroke="#ffffff" stroke-width="4"' + text % ""


def _box(spot: _Spot) -> str:
    box = spot.box
    if box is None:
        return ""
    fill, border = _COLOURS[box.kind]
    radius = _HEIGHT / 2 if box.kind in ("agent", "outside") else 6
    dashes = ' stroke-dasharray="4 3"' if box.kind in ("component", "outside") else ""
    note = "#b91c1c" if box.alarming else "#6b7280"
    return (
        f'<g><rect x="{spot.x - spot.width / 2:.1f}" y="{spot.y - _HEIGHT / 2:.1f}" width="{spot.width:.1f}" '
        f'height="{_HEIGHT:.0f}" rx="{radius:.0f}" fill="{fill}" stroke="{border}" stroke-width="1.4"{dashes}/>'
        f'<text x="{spot.x:.1f}" y="{spot.y - 3:.1f}" font-size="13" font-weight="600" text-anchor="middle" '
        f'fill="#111827">{escape(box.label)}</text>'
        f'<text x="{spot.x:.1f}" y="{spot.y + 14:.1f}" font-size="11" text-anchor="middle" '
        f'fill="{note}">{escape(box.note)}</text></g>'
    )
