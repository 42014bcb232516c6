"""How the search branched: discoveries led to pipelines, and pipelines to discoveries. As text and as a picture."""

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Literal

from examples.model_search.artifacts import Plan, Verdict
from stigmergy import View, WorkDiscovery

State = Literal["discovery", "accepted", "rejected"]
COLOURS: dict[State, str] = {"discovery": "#fff3dc", "accepted": "#c9efd4", "rejected": "#eef0f3"}
ROW, STEP, LETTER = 24, 28, 6.6


@dataclass(frozen=True)
class Line:
    """A discovery with its text, or a pipeline with its score, and how many steps it is from the data."""

    depth: int
    state: State
    text: str


@dataclass(frozen=True)
class Story:
    """What led to what. Built from the board alone, so any board of a search tells its story."""

    discoveries: dict[str, WorkDiscovery]
    verdicts: dict[str, Verdict]

    def lines(self) -> list[Line]:
        """The whole tree, a parent before what grew from it."""
        roots = sorted(name for name in self.discoveries if name.endswith(":data"))
        return [line for name in roots for line in self._from_discovery(name, 0)]

    def way_to(self, digest: str) -> list[str]:
        """The steps from the data to this pipeline."""
        steps: list[str] = []
        while digest in self.verdicts:
            verdict = self.verdicts[digest]
            steps += [self._pipeline(verdict), self.discoveries[verdict.because].description]
            digest = verdict.because.partition(":")[2]
        return steps[::-1]

    def _from_discovery(self, name: str, depth: int) -> Iterator[Line]:
        yield Line(depth, "discovery", self.discoveries[name].description)
        led_to = [v for v in self.verdicts.values() if v.because == name]
        for verdict in sorted(led_to, key=lambda v: (-(v.mean or -1e9), v.digest)):
            yield Line(depth + 1, "accepted" if verdict.accepted else "rejected", self._pipeline(verdict))
            for found in verdict.found:
                yield from self._from_discovery(found, depth + 2)

    @staticmethod
    def _pipeline(verdict: Verdict) -> str:
        score = verdict.reason if verdict.mean is None else f"{verdict.mean:.4f}, {verdict.votes} votes"
        return f"{verdict.label}: {score}"


def story_of(board: View) -> Story:
    """Read it from a board."""
    planned = {plan.because for plan in board.artifacts(Plan).payloads}
    work = {w.work_id: w for w in board.artifacts(WorkDiscovery).payloads if w.work_id in planned}
    discoveries = {name: w for name, w in work.items() if name is not None and name != "search"}
    return Story(discoveries, {v.digest: v for v in board.artifacts(Verdict).payloads})


def story_text(lines: list[Line]) -> str:
    """The tree, indented; a plus stands before what was accepted."""
    signs = {"discovery": "?", "accepted": "+", "rejected": "-"}
    return "\n".join(f"{'   ' * line.depth}{signs[line.state]} {line.text}" for line in lines)


def story_svg(lines: list[Line], title: str) -> str:
    """The tree as an image: discoveries orange, accepted pipelines green, rejected ones grey."""
    width = max((line.depth * STEP + len(line.text) * LETTER for line in lines), default=0) + 60
    height = (len(lines) + 2) * ROW
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}" font-family="sans-serif">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="12" y="24" font-size="15" font-weight="bold">{escape(title)}</text>',
    ]
    parents: dict[int, int] = {}
    for row, line in enumerate(lines):
        x, y = 12 + line.depth * STEP, (row + 2) * ROW
        parents[line.depth] = y
        if line.depth:
            path = f"M{x - STEP + 8},{parents[line.depth - 1] + 7} V{y} H{x}"
            parts.append(f'<path d="{path}" fill="none" stroke="#9aa0a8"/>')
        box = f'<rect x="{x}" y="{y - 9}" width="{len(line.text) * LETTER + 14:.0f}" height="18" rx="5"'
        parts.append(f'{box} fill="{COLOURS[line.state]}"/>')
        parts.append(f'<text x="{x + 7}" y="{y + 4}" font-size="12">{escape(line.text)}</text>')
    return "\n".join([*parts, "</svg>", ""])
