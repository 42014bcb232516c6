"""What emerged on a board, as a graph: which agents consumed and published which artifact types, and how often."""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from stigmergy.blackboard import events as ev
from stigmergy.blackboard.errors import BadFileName
from stigmergy.blackboard.events import Event
from stigmergy.blackboard.reading.drawing import Arrow, Box, draw
from stigmergy.blackboard.text import number, short

NodeKind = Literal["outside", "agent", "component", "type"]
OUTSIDE = "outside"


@dataclass(slots=True)
class Node:
    """Somebody who publishes, or an artifact type. `count` are artifacts published, or activations completed;
    `failed` dead letters, or artifacts that nobody took."""

    kind: NodeKind
    name: str
    count: int = 0
    failed: int = 0

    @property
    def note(self) -> str:
        """The second line under the name."""
        if self.kind == "agent":
            return f"{self.count:,} done" + (f", {self.failed:,} failed" if self.failed else "")
        if self.kind == "type":
            return f"{self.count:,}" + (f", {self.failed:,} not taken" if self.failed else "")
        return number(self.count, "seed") if self.kind == "outside" else "component"


@dataclass(frozen=True, slots=True)
class Edge:
    """Artifacts that went this way: from who published them to their type, or from the type to who consumed them."""

    source: tuple[NodeKind, str]
    target: tuple[NodeKind, str]
    count: int


@dataclass(frozen=True, slots=True)
class Picture:
    """A graph of what happened, in order of first appearance. In a notebook it shows itself."""

    title: str
    nodes: tuple[Node, ...] = ()
    edges: tuple[Edge, ...] = ()

    def __repr__(self) -> str:
        agents = sum(n.kind == "agent" for n in self.nodes)
        types = sum(n.kind == "type" for n in self.nodes)
        return f"<Picture of {self.title!r}: {number(agents, 'agent')}, {number(types, 'artifact type')}>"

    def to_json(self) -> str:
        """The graph as a JSON object: its title, nodes and edges."""
        return _PICTURE.dump_json(self, indent=2).decode()

    def mermaid(self) -> str:
        """The graph as a Mermaid flowchart."""
        ids = self._ids()
        shapes = {"agent": ('(["', '"])'), "component": ('[["', '"]]'), "type": ('["', '"]'), "outside": ('(("', '"))')}
        lines = ["flowchart LR"]
        for node in self.nodes:
            left, right = shapes[node.kind]
            label = f"{_mermaid(node.name)}<br/>{_mermaid(node.note)}"
            lines.append(f"    {ids[node.kind, node.name]}{left}{label}{right}")
        lines += [f"    {ids[e.source]} -->|{e.count}| {ids[e.target]}" for e in self.edges]
        return "\n".join([*lines, ""])

    def dot(self) -> str:
        """The graph for Graphviz."""
        ids = self._ids()
        shapes = {"agent": "box, style=rounded", "component": "box, style=dashed", "type": "note", "outside": "circle"}
        lines = ["digraph stigmergy {", "    rankdir=LR;"]
        for node in self.nodes:
            label = f"{_dot(node.name)}\\n{_dot(node.note)}"
            lines.append(f'    {ids[node.kind, node.name]} [shape={shapes[node.kind]}, label="{label}"];')
        lines += [f'    {ids[e.source]} -> {ids[e.target]} [label="{e.count}"];' for e in self.edges]
        return "\n".join([*lines, "}", ""])

    def svg(self) -> str:
        """The graph as a standalone SVG image."""
        places = {(n.kind, n.name): i for i, n in enumerate(self.nodes)}
        boxes = [Box(n.kind, short(n.name, 40), n.note, alarming=bool(n.failed)) for n in self.nodes]
        arrows = [Arrow(places[e.source], places[e.target], e.count) for e in self.edges]
        return draw(boxes, arrows, self.title)

    def html(self) -> str:
        """The graph as one HTML page."""
        head = f'<meta charset="utf-8"><title>{escape(self.title)}</title>'
        style = "<style>body{margin:2em;font-family:system-ui,sans-serif}svg{max-width:100%;height:auto}</style>"
        return f"<!doctype html>\n<html><head>{head}{style}</head><body>\n{self.svg()}\n</body></html>\n"

    def save(self, path: str | Path) -> Path:
        """Write it to a file; the form follows from the ending: .svg, .html, .mmd or .dot.

        Raises:
            BadFileName: another ending, or nothing can be written there.
        """
        if not isinstance(path, str | Path):
            raise BadFileName(f"{path!r} is no file name. Give one that ends in .svg, .html, .mmd or .dot.")
        target = Path(path)
        forms = {".svg": self.svg, ".html": self.html, ".mmd": self.mermaid, ".dot": self.dot}
        form = forms.get(target.suffix.lower())
        if form is None:
            raise BadFileName(f"{target.name} has an unknown ending. Pictures are saved as {', '.join(forms)}.")
        try:
            target.write_text(form(), encoding="utf-8")
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise BadFileName(f"{str(target)!r} cannot be written: {why}. Choose another file.") from error
        return target

    def _repr_svg_(self) -> str:
        return self.svg()

    def _repr_html_(self) -> str:
        return self.svg()

    def _ids(self) -> dict[tuple[NodeKind, str], str]:
        return {(n.kind, n.name): f"n{i}" for i, n in enumerate(self.nodes)}


_PICTURE = TypeAdapter(Picture)


@dataclass(slots=True)
class _Fold:
    """What the picture is folded into; of every artifact only its type is remembered, two bytes by position."""

    nodes: dict[tuple[NodeKind, str], Node] = field(default_factory=dict)
    edges: dict[tuple[tuple[NodeKind, str], tuple[NodeKind, str]], int] = field(default_factory=dict)
    names: list[str] = field(default_factory=lambda: [""])
    numbers: dict[str, int] = field(default_factory=dict)
    types: "array[int]" = field(default_factory=lambda: array("H"))
    agents: dict[int, str] = field(default_factory=dict)

    def node(self, kind: NodeKind, name: str) -> Node:
        found = self.nodes.get((kind, name))
        if found is None:
            found = self.nodes[kind, name] = Node(kind, name)
        return found

    def edge(self, source: Node, target: Node) -> None:
        ends = (source.kind, source.name), (target.kind, target.name)
        self.edges[ends] = self.edges.get(ends, 0) + 1

    def remember(self, artifact: int, name: str) -> None:
        if name not in self.numbers:
            self.numbers[name] = len(self.names)
            self.names.append(name)
        self.types.extend(0 for _ in range(artifact - len(self.types)))
        self.types.append(self.numbers[name])

    def type_at(self, artifact: int) -> str:
        return self.names[self.types[artifact]] if artifact < len(self.types) else ""

    def published(self, e: ev.Published) -> None:
        self.remember(e.seq, e.type)
        kind: NodeKind = "outside" if e.producer == OUTSIDE else "component" if e.system else "agent"
        producer, target = self.node(kind, e.producer), self.node("type", e.type)
        if kind == "outside":
            producer.count += 1
        elif kind == "component" and (reason := self.type_at(e.cause)):
            self.edge(self.node("type", reason), producer)
        target.count += 1
        target.failed += e.unserved
        self.edge(producer, target)

    def activated(self, e: ev.Activated) -> None:
        agent = self.node("agent", e.agent)
        self.agents[e.seq] = e.agent
        for artifact in e.inputs:
            if not e.redriven and (name := self.type_at(artifact)):
                self.edge(self.node("type", name), agent)

    def apply(self, e: Event) -> None:
        if isinstance(e, ev.Published):
            self.published(e)
        elif isinstance(e, ev.Activated):
            self.activated(e)
        elif isinstance(e, ev.Enrolled):
            if e.role == "agent":
                self.node("agent", e.name)
        elif isinstance(e, ev.Completed):
            self.node("agent", self.agents.pop(e.cause)).count += 1
        elif isinstance(e, ev.Ended):
            self.node("agent", self.agents.pop(e.cause)).failed += e.outcome == "dead_letter"
        elif isinstance(e, ev.Released) and e.unserved and (name := self.type_at(e.cause)):
            self.node("type", name).failed += 1


def picture_of(events: Iterable[Event], title: str = "board") -> Picture:
    """Fold a log into a picture, in memory that grows with the agents and types, hardly with the log."""
    fold = _Fold()
    for event in events:
        fold.apply(event)
    edges = tuple(Edge(source, target, count) for (source, target), count in fold.edges.items())
    return Picture(title, tuple(fold.nodes.values()), edges)


def _mermaid(text: str) -> str:
    return "".join(c if c.isalnum() or c in " _-.,/" else f"#{ord(c)};" for c in short(text, 40))


def _dot(text: str) -> str:
    return short(text, 40).replace("\\", "\\\\").replace('"', '\\"')
