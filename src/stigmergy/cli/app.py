"""The commands."""

import io
import json
import shlex
import sys
import tempfile
from collections.abc import Iterable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel

from stigmergy.agents.roster import Roster
from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.definitions import Limits
from stigmergy.blackboard.errors import StoreError
from stigmergy.blackboard.reading.leftovers import resume_command
from stigmergy.blackboard.reading.report import Report
from stigmergy.blackboard.reading.view import read
from stigmergy.blackboard.text import number, plain
from stigmergy.board import Blackboard
from stigmergy.cli import caring, mending, printing
from stigmergy.cli.checking import check_json, check_lines, checked
from stigmergy.cli.doctor import doctor
from stigmergy.cli.errors import Commands, errors, writing
from stigmergy.cli.loading import load, parse_limits
from stigmergy.cli.looking import (
    artifact_lines,
    check_names,
    event_lines,
    follow,
    informed,
    last_events,
    past,
    record,
    tree_lines,
)
from stigmergy.cli.making import written_test
from stigmergy.cli.options import (
    At,
    Board,
    Json,
    LimitList,
    Quiet,
    SeedFiles,
    SeedType,
    SetList,
    Store,
    StoreFile,
    Target,
    Timeout,
    Traceback,
)
from stigmergy.cli.printing import print_lines, tell
from stigmergy.cli.running import go, on_terminal, own_signals
from stigmergy.cli.words import fields
from stigmergy.loop import in_a_loop
from stigmergy.prompts import prompt_of
from stigmergy.replay import replay as replayed
from stigmergy.seeds import read_seeds, save_seeds, write_stream
from stigmergy.version import VERSION

_EXITS = (
    "Exit codes: 0 all went well; 1 it ended with failures; 2 usage, definition or seed error; 3 the store cannot be "
    "used; 4 stopped by a limit or the timeout; 130 interrupted."
)
app = typer.Typer(
    name="stigmergy", cls=Commands, invoke_without_command=True, add_completion=False,
    pretty_exceptions_enable=False, rich_markup_mode=None,
    help="Agents that coordinate through typed artifacts on a shared, durable blackboard.", epilog=_EXITS,
)  # fmt: skip


def main() -> None:
    """The console entry point."""
    app()


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"stigmergy {VERSION}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    for stream in (sys.stdout, sys.stderr):  # a character that the terminal lacks must not cost the whole report
        if isinstance(stream, io.TextIOWrapper) and not stream.encoding.lower().startswith("utf"):
            stream.reconfigure(errors="backslashreplace")
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)


@app.command()
def run(
    target: Target, seed: SeedFiles = [], seed_type: SeedType = None, store: Store = None,
    timeout: Timeout = None, limit: LimitList = [], settings: SetList = [],
    as_json: Json = False, quiet: Quiet = False, traceback: Traceback = False,
) -> None:  # fmt: skip
    """Publish seeds and run until idle. Then print what happened and what is left."""
    with errors(traceback=traceback, hint=_resume_hint(target, store)):
        board = _board(load(target, settings), store, limit)
        report, _ = _go(board, seed, seed_type, timeout=timeout, quiet=quiet)
        _finish(report, target, as_json=as_json, quiet=quiet)


@app.command()
def resume(
    target: Target, store: StoreFile, timeout: Timeout = None, limit: LimitList = [], settings: SetList = [],
    as_json: Json = False, quiet: Quiet = False, traceback: Traceback = False,
) -> None:  # fmt: skip
    """Go on with a board file. That is what was interrupted, stopped by a limit, or published meanwhile."""
    with errors(traceback=traceback, hint=_resume_hint(target, store)):
        if not store.exists():
            raise StoreError(f"{store} does not exist. Start with: stigmergy run {shlex.quote(target)} --seed …")
        board = _board(load(target, settings), store, limit)
        report, _ = _go(board, [], None, timeout=timeout, quiet=quiet)
        _finish(report, target, as_json=as_json, quiet=quiet)


@app.command()
def publish(
    target: Target, seed: SeedFiles, store: StoreFile, seed_type: SeedType = None, settings: SetList = [],
    as_json: Json = False, quiet: Quiet = False, traceback: Traceback = False,
) -> None:  # fmt: skip
    """Publish seeds and run nothing."""
    with errors(traceback=traceback):
        board = _board(load(target, settings), store, [])
        _, published = _go(board, seed, seed_type, timeout=None, quiet=quiet, running=False)
        go_on, facts = resume_command(store, target), [record(a) for a in published]
        said = f"published {number(len(published), 'artifact')} on {store}; run it with: {go_on}"
        tell(said, as_json=as_json, quiet=quiet, published=facts, next=go_on)


@app.command()
def check(
    target: Target, settings: SetList = [], as_json: Json = False, traceback: Traceback = False,
) -> None:  # fmt: skip
    """Load a file and check its definitions. List agents, components and settings."""
    with errors(traceback=traceback):
        roster = load(target, settings)
        checked(roster)
        print_lines([check_json(roster)] if as_json else check_lines(roster))


@app.command()
def show(
    store: Board,
    type_name: Annotated[str | None, typer.Argument(metavar="[TYPE]", help="List artifacts of this type.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="List artifacts of all types.")] = False,
    tree: Annotated[bool, typer.Option("--tree", help="Show how the work branched.")] = False,
    where: Annotated[list[str], typer.Option("--where", help="field=value; can be repeated.")] = [],
    producer: Annotated[str | None, typer.Option("--producer", help="Only by this agent.")] = None,
    tag: Annotated[list[str], typer.Option("--tag", help="Only with this tag; repeated = any of them.")] = [],
    in_run: Annotated[str | None, typer.Option("--run", help="Only of this run.")] = None,
    at: At = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="How many to list; 0 = all.")] = 200,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Show what happened and what is left. Or list artifacts, of a TYPE or all; or the tree of the work."""
    with errors(), read(store) as board:
        view = past(board, at)
        if tree:
            print_lines(tree_lines(view, limit or sys.maxsize))
        elif type_name or everything or where or producer or tag or in_run:
            given = fields(where, "--where") or None
            found = view.artifacts(type_name, where=given, producer=producer, tags=tag, run=in_run, limit=limit or None)
            if not found.total:
                check_names(board, type_name, given or ())
            print_lines(artifact_lines(found, as_json=as_json))
        else:
            report = view.report()
            printing.show(report, as_json=as_json)


@app.command()
def tail(
    store: Board,
    count: Annotated[int, typer.Option("-n", min=0, help="How many of the last events.")] = 20,
    after: Annotated[int | None, typer.Option("--after", help="All events after this position.")] = None,
    following: Annotated[bool, typer.Option("--follow", "-f", help="Go on as events are written.")] = False,
    as_json: Json = False,
) -> None:
    """Print the last events of the log."""
    with errors(), read(store) as view:
        start = view.last if after is None else after
        print_lines(event_lines(last_events(view, count) if after is None else view.events(after), as_json=as_json))
        if following:
            sys.stdout.flush()
            for line in event_lines(follow(view, start), as_json=as_json):
                typer.echo(line)


@app.command()
def why(
    store: Board,
    artifact: Annotated[str, typer.Argument(metavar="ID", help="12, Type@12 or agent@33.")],
    at: At = None,
    prov: Annotated[bool, typer.Option("--prov", help="Print the lineage as W3C PROV-JSON.")] = False,
    as_json: Json = False,
) -> None:
    """Explain an artifact or an activation. It rests on all that is shown, back to the seeds."""
    with errors(), read(store) as view:
        proof = past(view, at).why(artifact)
        typer.echo(proof.to_prov() if prov else proof.to_json() if as_json else str(proof))


@app.command("why-not")
def why_not(
    store: Board,
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="The agent that did not run.")],
    artifact: Annotated[str, typer.Argument(metavar="ID", help="12 or Type@12.")],
    target: Annotated[str | None, typer.Argument(metavar="[FILE[:NAME]]", help="Where the agent is defined.")] = None,
    at: At = None,
    settings: SetList = [],
    as_json: Json = False,
) -> None:
    """Explain why an agent did not run. Or say what came of it; with FILE, down to the test that failed."""
    with errors(), read(store) as file:
        view = file if target is None else informed(file, load(target, settings))
        answer = past(view, at).why_not(agent, artifact)
        printing.show(answer, as_json=as_json)


@app.command()
def prompt(
    target: Target,
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="An agent that a model answers for.")],
    artifact: Annotated[list[str], typer.Argument(metavar="ID...", help="Its inputs: 12 or Type@12.")],
    store: StoreFile, settings: SetList = [],
    as_json: Json = False, traceback: Traceback = False,
) -> None:  # fmt: skip
    """Print what a model would be asked. The artifacts are those of a board file, and nothing is sent."""
    with errors(traceback=traceback), read(store) as file:
        roster = load(target, settings)
        request = prompt_of(informed(file, roster), roster, agent, *artifact)
        typer.echo(request.model_dump_json(indent=2) if as_json else plain(str(request)))


@app.command()
def replay(
    store: Board, target: Target, settings: SetList = [],
    until: Annotated[int | None, typer.Option("--until", help="The last position to replay.")] = None,
    as_json: Json = False, traceback: Traceback = False,
) -> None:  # fmt: skip
    """Decide a recorded run again. If the definitions of FILE decide otherwise, print where and exit with 1."""
    with errors(traceback=traceback), read(store) as view:
        found = replayed(view, load(target, settings), until=until)
        printing.show(found, as_json=as_json)
        raise typer.Exit(0 if found.ok else 1)


@app.command("make-test")
def make_test(
    store: Board, target: Target,
    activation: Annotated[str, typer.Argument(metavar="ID", help="33, agent@33, or what it published: Type@41.")],
    output: Annotated[Path | None, typer.Option("-o", help="A .py file; without it, stdout.")] = None,
    as_json: Json = False, traceback: Traceback = False,
) -> None:  # fmt: skip
    """Make a test of a recorded activation. It runs the body again and compares what comes of it."""
    with errors(traceback=traceback), read(store) as view:
        text = written_test(view, target, activation, output)
        if output is None:
            typer.echo(json.dumps({"test": text}, ensure_ascii=False) if as_json else text, nl=as_json)
            return
        with writing(output):
            output.write_text(text, encoding="utf-8")
        run_it = f"pytest {shlex.quote(str(output))}"
        tell(f"wrote {output}; run it with: {run_it}", as_json=as_json, wrote=str(output), next=run_it)


for name, command in (mending.COMMANDS | caring.COMMANDS | {"doctor": doctor}).items():
    app.command(name)(command)


@app.command()
def graph(
    store: Board,
    output: Annotated[Path | None, typer.Option("-o", help=".svg, .html, .mmd or .dot; without it, Mermaid.")] = None,
    at: At = None,
    as_json: Json = False,
) -> None:
    """Draw what emerged. That is which agents consumed and published what, how often."""
    with errors(), read(store) as board:
        picture = past(board, at).graph()
        if output is None:
            typer.echo(picture.to_json() if as_json else picture.mermaid(), nl=as_json)
            return
        wrote = picture.save(output)
        tell(f"wrote {wrote}", as_json=as_json, wrote=str(wrote))


@app.command()
def export(
    store: Board,
    output: Annotated[Path | None, typer.Option("-o", help="A .jsonl file; without it, stdout.")] = None,
    at: At = None,
    as_json: Json = False,
) -> None:
    """Write what was published as a stream. It is JSON, one artifact a line, and can be played again."""
    with errors(), read(store) as board:
        view = past(board, at)
        if output is None:
            write_stream(view, sys.stdout)
            return
        with writing(output), output.open("w", encoding="utf-8") as file:
            count = write_stream(view, file)
        tell(f"wrote {number(count, 'artifact')} to {output}", as_json=as_json, wrote=str(output), artifacts=count)


def _board(found: Roster, store: Path | None, limits: Iterable[str]) -> Blackboard:
    """The board to run: the one that was found, or one in the given file with what was found."""
    bounds: Limits | None = parse_limits(limits, found.limits)
    if isinstance(found, Blackboard) and store is None:
        found.limits = bounds
        return found
    if not isinstance(found, Blackboard):
        return Blackboard(store, roster=found, limits=bounds)
    return Blackboard(store, roster=found, limits=bounds, run=found._run, durability=found._durability)


def _go(
    board: Blackboard, files: list[str], bare_type: str | None, *, timeout: float | None, quiet: bool,
    running: bool = True,
) -> tuple[Report | None, list[Artifact[BaseModel]]]:  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        seeds = [_checked_seeds(file, board, bare_type, Path(folder), quiet=quiet) for file in files]
        live = running and not quiet and on_terminal()
        with redirect_stdout(sys.stderr), own_signals():  # what bodies print is no report
            return in_a_loop(lambda: go(board, seeds, bare_type=bare_type, timeout=timeout, live=live, run=running,
                                         tell=not quiet))  # fmt: skip


def _checked_seeds(file: str, board: Blackboard, bare_type: str | None, folder: Path, *, quiet: bool) -> Path:
    """Check a seed file before anything is opened; what comes from stdin is kept in a file."""
    path = save_seeds(sys.stdin.buffer, folder) if file == "-" else Path(file)
    seeds = read_seeds(path, board.types, type_name=bare_type, name="stdin" if file == "-" else None)
    if seeds.recorded and not quiet:
        typer.echo(f"{file}: {seeds.recorded:,} recorded outputs skipped", err=True)
    return path


def _finish(report: Report | None, target: str, *, as_json: bool, quiet: bool) -> None:
    if report is None:
        return
    if as_json:
        typer.echo(report.to_json())
    elif not quiet:
        typer.echo(report.for_shell(target))
    stopped = {"budget": 4, "timeout": 4, "broken": 3}
    raise typer.Exit(stopped.get(report.reason, 0 if report.ok else 1))


def _resume_hint(target: str, store: Path | None) -> str:
    return " Nothing is kept without --store." if store is None else f" Go on with: {resume_command(store, target)}"
