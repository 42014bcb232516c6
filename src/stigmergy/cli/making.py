"""The command that makes a test of a recorded activation."""

import sys
from pathlib import Path

from stigmergy.agents.roster import Roster
from stigmergy.blackboard.errors import DefinitionError
from stigmergy.blackboard.reading.view import View
from stigmergy.cli.loading import load
from stigmergy.testing.making import make_test


def written_test(view: View, target: str, activation: str, output: Path | None) -> str:
    """The text of a test that imports what `FILE[:NAME]` means, from where it is written.

    Raises:
        DefinitionError: the file has no roster that a test can import.
    """
    roster = load(target)
    file = output if output is not None else Path("test_recorded.py")
    return make_test(view, roster, activation, file=file, source=_source(target, roster))


def _source(target: str, roster: Roster) -> str:
    """Where a test finds the roster again, as `module:expression`."""
    file, _, name = (target, "", "") if Path(target).is_file() else target.rpartition(":")
    path = Path(file).resolve()
    module = next(m for m in list(sys.modules.values()) if getattr(m, "__file__", None) == str(path))
    for found, value in vars(module).items():
        if value is roster:
            return f"{module.__name__}:{found}"
        if getattr(value, "roster", None) is roster:
            return f"{module.__name__}:{found}.roster"
    if not name:
        raise DefinitionError(f"{target} has a function that makes the roster. Name it: {target}:NAME.")
    made = getattr(module, name)()
    return f"{module.__name__}:{name}(){'' if isinstance(made, Roster) else '.roster'}"
