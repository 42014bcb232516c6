"""The picture of what emerged: true to the log, well-formed, and safe with any text."""

import json
import re
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stigmergy import Component, Publish, Seen, WorkDiscovery
from stigmergy.blackboard.errors import BadFileName
from stigmergy.blackboard.events import Activated, Published
from stigmergy.blackboard.reading.drawing import Arrow, Box, draw
from stigmergy.blackboard.reading.picture import Edge, Node, Picture
from tests.boards import A, B, Boards, C

pytestmark = pytest.mark.anyio
SVG = "{http://www.w3.org/2000/svg}"


class Echo(Component[None]):
    """Publishes a C for every B."""

    publishes = (C,)
    observes = (B,)

    def react(self, state: None, seen: Seen, /) -> list[Publish]:
        return [Publish(C())] if seen.artifact is not None else []


async def work_in_a_circle(new_board: Boards) -> tuple[Picture, Counter[tuple[str, str]]]:
    """A -> B -> A two times, a component, a dead letter, work that nobody takes; and the edges counted from events."""
    board = new_board(components=[Echo()])

    @board.agent
    async def forth(a: A) -> B:
        return B(n=a.n)

    @board.agent
    async def back(b: B) -> A | None:
        return A(n=b.n + 1) if b.n < 2 else None

    @board.agent
    async def break_(c: C) -> None:
        raise ValueError("no")

    await board.publish(A(n=0))
    await board.publish(WorkDiscovery(description="x", phase="nowhere", done_definition="y"))
    await board.run_until_idle()
    counted: Counter[tuple[str, str]] = Counter()
    types: dict[int, str] = {}
    for e in board.events():
        if isinstance(e, Published):
            types[e.seq] = e.type
            counted[e.producer, e.type] += 1
            if e.producer == "echo":
                counted[types[e.cause], "echo"] += 1
        elif isinstance(e, Activated):
            for artifact in e.inputs:
                counted[types[artifact], e.agent] += 1
    return board.graph(), counted


@pytest.mark.req("S3.85")
async def test_the_graph_of_a_run_is_what_its_events_say(new_board: Boards) -> None:
    picture, counted = await work_in_a_circle(new_board)
    assert {(e.source[1], e.target[1]): e.count for e in picture.edges} == dict(counted)
    nodes = {n.name: (n.kind, n.count, n.failed) for n in picture.nodes}
    assert nodes == {
        "forth": ("agent", 3, 0), "back": ("agent", 3, 0), "break_": ("agent", 0, 3), "outside": ("outside", 2, 0),
        "A": ("type", 3, 0), "B": ("type", 3, 0), "C": ("type", 3, 0), "WorkDiscovery": ("type", 1, 1),
        "echo": ("component", 0, 0),
    }  # fmt: skip
    assert repr(picture).endswith("3 agents, 4 artifact types>")


async def test_a_tried_again_dead_letter_is_not_drawn_as_more_work(new_board: Boards) -> None:
    board = new_board()

    @board.agent
    async def break_(a: A) -> None:
        raise ValueError("no")

    await board.publish(A())
    report = await board.run_until_idle()
    await board.retry(report.left.dead_letters[0].activation)
    await board.run_until_idle()
    [taken] = [e for e in board.graph().edges if e.target == ("agent", "break_")]
    assert taken.count == 1


async def test_every_form_names_all_nodes_and_counts_all_edges(new_board: Boards, tmp_path: Path) -> None:
    picture, _ = await work_in_a_circle(new_board)
    names = {n.name for n in picture.nodes}
    for suffix in (".svg", ".html", ".mmd", ".dot"):
        text = picture.save(tmp_path / f"run{suffix}").read_text()
        assert all(name in text for name in names), suffix
    assert len(re.findall(r"-->\|\d+\|", picture.mermaid())) == len(picture.edges)
    assert picture.dot().count(" -> ") == len(picture.edges)
    root = ElementTree.fromstring(picture.svg())
    assert len(root.findall(f"./{SVG}path")) == len(picture.edges)
    assert picture._repr_html_() == picture._repr_svg_() == picture.svg()
    assert picture.html().startswith("<!doctype html>")


async def test_pictures_stand_alone_and_the_page_is_whole(new_board: Boards) -> None:
    picture, _ = await work_in_a_circle(new_board)
    for text in (picture.svg(), picture.html()):
        assert re.findall(r"\w+://[^\s\"'<>]+", text) == ["http://www.w3.org/2000/svg"], "the name of SVG, not a place"
        assert not re.search(r"<script|<link|<image|<use|@import|url\((?!#)|\bsrc=|\bhref=", text)
    page = picture.html().removeprefix("<!doctype html>\n").replace('<meta charset="utf-8">', "")
    root = ElementTree.fromstring(page)
    assert [child.tag for child in root] == ["head", "body"]
    assert root.find(f"./body/{SVG}svg") is not None
    found = json.loads(picture.to_json())
    assert len(found["nodes"]) == len(picture.nodes)
    assert sum(edge["count"] for edge in found["edges"]) == sum(edge.count for edge in picture.edges)


def test_an_unknown_ending_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(BadFileName, match=r"\.svg, \.html, \.mmd, \.dot"):
        Picture("x").save(tmp_path / "x.png")


NASTY = "</title><script>alert('1')</script>\"]] & é"


def test_no_text_of_users_becomes_markup() -> None:
    nodes = (Node("agent", NASTY, 1, 1), Node("type", NASTY, 2), Node("outside", "outside", 1))
    edges = (
        Edge(("outside", "outside"), ("type", NASTY), 1),
        Edge(("type", NASTY), ("agent", NASTY), 1),
    )
    picture = Picture(NASTY, nodes, edges)
    assert "<script>" not in picture.svg() + picture.html() + picture.mermaid()
    texts = [t.text or "" for t in ElementTree.fromstring(picture.svg()).iter(f"{SVG}text")]
    assert any(NASTY[:20] in text for text in texts)
    assert '"]]' not in picture.mermaid().replace('"]\n', "")
    assert "label=\"</title><script>alert('1')" in picture.dot()
    assert '\\"]]' in picture.dot()


def boxes_of(svg: str) -> list[tuple[float, float, float, float]]:
    root = ElementTree.fromstring(svg)
    return [
        (float(r.attrib["x"]), float(r.attrib["y"]), float(r.attrib["width"]), float(r.attrib["height"]))
        for r in root.findall(f"./{SVG}g/{SVG}rect")
    ]


@given(st.integers(1, 30).flatmap(lambda n: st.tuples(
    st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=3 * n, unique=True),
)))  # fmt: skip
def test_any_graph_is_drawn_with_boxes_that_do_not_overlap_and_stay_on_the_page(
    graph: tuple[int, list[tuple[int, int]]],
) -> None:
    count, edges = graph
    boxes = [Box("agent" if i % 2 else "type", f"name {'x' * (i % 7)}", f"{i}") for i in range(count)]
    svg = draw(boxes, [Arrow(a, b, 1) for a, b in edges], "board")
    root = ElementTree.fromstring(svg)
    drawn = boxes_of(svg)
    assert len(drawn) == count
    assert len(root.findall(f"./{SVG}path")) == len(edges)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for i, (x, y, w, h) in enumerate(drawn):
        assert x >= 0
        assert y >= 0
        assert x + w <= width
        assert y + h <= height
        for x2, y2, w2, h2 in drawn[:i]:
            assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 + 0.2 or y2 + h2 <= y + 0.2
    assert draw(boxes, [Arrow(a, b, 1) for a, b in edges], "board") == svg


def test_work_flows_from_left_to_right_unless_it_goes_back() -> None:
    boxes = [Box("type", name, "") for name in "abc"]
    svg = draw(boxes, [Arrow(0, 1, 1), Arrow(1, 2, 5), Arrow(2, 0, 1)], "board")
    xs = [x for x, *_ in boxes_of(svg)]
    assert xs == sorted(xs)
    assert svg.count("stroke-dasharray") == 1


def test_an_empty_board_has_an_empty_picture() -> None:
    assert ElementTree.fromstring(Picture("board").svg()).findall(f"./{SVG}g") == []
