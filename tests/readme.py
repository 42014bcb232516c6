"""The code blocks of the README: `python tests/readme.py 1` prints the first `sh` block."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of one language, in order."""
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return found


if __name__ == "__main__":
    print(blocks((ROOT / "README.md").read_text(encoding="utf-8"), "sh")[int(sys.argv[1]) - 1], end="")  # noqa: T201
