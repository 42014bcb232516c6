"""The main job, run as a user runs it, on small tables of our own."""

import asyncio
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from examples.model_search import artifacts
from examples.model_search.__main__ import main, search
from examples.model_search.agents import seed_of, team
from examples.model_search.asking import Proposal
from examples.model_search.data import Dataset, load
from examples.model_search.frontier import Waiting, choose
from examples.model_search.planning import Situation, plan
from examples.model_search.profile import profile
from examples.model_search.scoring import Columns, cross_validate, fitted
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import LinearRegression
from sklearn.svm import SVR

from stigmergy import Blackboard, Tally, View, Vote, WorkDiscovery, read, replay
from stigmergy.blackboard.events import Opened
from stigmergy.models import Request, Scripted
from stigmergy.testing import asked, outputs
from tests.readme import ROOT

pytestmark = pytest.mark.filterwarnings("ignore:::sklearn")  # a pipeline that converges badly gets a bad score
BUDGET = 3
TYPES = (
    artifacts.Baseline, artifacts.Candidate, artifacts.CrossValidation, artifacts.DatasetProfile,
    artifacts.FittedPipeline, artifacts.Plan, artifacts.Verdict, WorkDiscovery, Vote, Tally,
)  # fmt: skip


def houses(path: Path) -> Path:
    """Prices that grow by factors, with a town, missing ages and a column of names."""
    random = np.random.default_rng(1)
    rows = 100
    table = pd.DataFrame(
        {
            "area": random.normal(100, 20, rows).round(2),
            "town": random.choice(["north", "south", "west"], rows),
            "age": random.exponential(20, rows).round(2),
            "name": [f"house {number}" for number in range(rows)],
        }
    )
    factor = 0.03 * table.area + 0.8 * (table.town == "west") - 0.02 * table.age + random.normal(0, 0.3, rows)
    table["price"] = np.exp(factor).round(3)
    table.loc[::9, "age"] = np.nan
    table.to_csv(path, sep=";", index=False)
    return path


def frauds(path: Path) -> Path:
    """A rare class far from the middle of two inputs, and a third input that repeats the first."""
    random = np.random.default_rng(2)
    table = pd.DataFrame(random.normal(size=(160, 3)), columns=["a", "b", "c"])
    table["d"] = 2 * table.a + random.normal(0, 0.05, 160)
    table["online"] = random.choice([True, False], 160)
    table["fraud"] = np.where(table.a**2 + table.b**2 > 3.6, "yes", "no")
    table.to_csv(path, index=False)
    return path


@dataclass(frozen=True)
class Done:
    """A finished search: its exit code, folder, board, and what it printed itself."""

    code: int
    out: Path
    store: Path
    printed: str
    csv: Path


def searched(csv: Path, target: str) -> Done:
    out, store = csv.parent / "out", csv.parent / "run.db"
    with redirect_stdout(StringIO()) as printed:
        code = main([str(csv), "--target", target, "--budget", str(BUDGET), "--out", str(out), "--store", str(store)])
    return Done(code, out, store, printed.getvalue(), csv)


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A finished search for a number."""
    return searched(houses(tmp_path_factory.mktemp("houses") / "houses.csv"), "price")


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A finished search for a class."""
    return searched(frauds(tmp_path_factory.mktemp("frauds") / "frauds.csv"), "fraud")


@pytest.fixture
def board(prices: Done) -> Iterator[View]:
    """What the search for a number left on its board."""
    with read(prices.store, TYPES) as view:
        yield view


def contents(view: View) -> list[str]:
    """All artifacts as sorted texts; where one names another by its id, the pipeline that is meant stands there."""
    digests = {a.id: a.payload.candidate.spec.digest for a in view.artifacts(artifacts.FittedPipeline)}
    return sorted(
        f"{a.type_name} by {a.producer}: "
        + re.sub(r'"subject":(\d+)', lambda found: digests[int(found[1])], a.payload.model_dump_json())
        for a in view.artifacts()
    )


def scores(text: str) -> list[tuple[str, str]]:
    """Means as the leaderboard or a pipeline's file prints them, with their spreads."""
    found: list[tuple[str, str]] = re.findall(r"(-?\d+\.\d{4}) (?:±|\+-) (\d+\.\d{4})", text)
    return found


# -- what a search leaves ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "target"), [("prices", "price"), ("classes", "fraud")])
def test_a_search_is_decided_the_same_way_again(kind: str, target: str, request: pytest.FixtureRequest) -> None:
    done: Done = request.getfixturevalue(kind)
    data = load(str(done.csv), target, 0, done.csv.parent)
    found = replay(done.store, team(data, done.out / "pipelines", BUDGET))
    assert found.ok, str(found)
    assert found.changed == ()


@pytest.mark.parametrize("kind", ["prices", "classes"])
def test_a_search_ends_with_a_leaderboard_a_picture_and_the_best_pipelines_file(
    kind: str, request: pytest.FixtureRequest
) -> None:
    done: Done = request.getfixturevalue(kind)
    assert done.code == 0
    table = (done.out / "leaderboard.txt").read_text()
    assert table.partition("\n\n")[0] in done.printed
    means = [float(mean) for mean, _ in scores(table.partition("\n\n")[0])]
    assert len(means) == BUDGET + 2
    assert means == sorted(means, reverse=True)
    assert sum(line.startswith("best") for line in table.splitlines()) == 1
    assert "dummy" in table
    assert "plain linear" in table
    for picture in ("workflow.svg", "discoveries.svg"):
        assert (done.out / picture).read_text().startswith("<svg")


def test_the_best_pipelines_file_finds_its_score_again_by_itself(prices: Done) -> None:
    command = [sys.executable, "-W", "error", str(prices.out / "best_pipeline.py"), str(prices.csv)]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    best = next(line for line in (prices.out / "leaderboard.txt").read_text().splitlines() if line.startswith("best"))
    assert scores(done.stdout) == scores(best)


def test_a_pipelines_file_notices_other_data(prices: Done, tmp_path: Path) -> None:
    table = pd.read_csv(prices.csv, sep=";")
    table["price"] = table["price"].to_numpy()[::-1]
    table.to_csv(tmp_path / "other.csv", sep=";", index=False)
    command = [sys.executable, str(prices.out / "best_pipeline.py"), str(tmp_path / "other.csv")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "recorded" in done.stdout


def test_every_built_pipeline_has_a_file_that_checks_itself(prices: Done, board: View) -> None:
    built = board.artifacts(artifacts.FittedPipeline).payloads
    assert {each.file for each in built} == {path.name for path in (prices.out / "pipelines").iterdir()}
    command = [sys.executable, str(prices.out / "pipelines" / built[0].file)]
    assert "check: as recorded" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_nothing_is_tried_twice_and_the_budget_is_kept(prices: Done, board: View) -> None:
    tried = [each.candidate.spec.digest for each in board.artifacts(artifacts.FittedPipeline).payloads]
    assert len(tried) == len(set(tried)) == BUDGET
    assert len(board.artifacts(artifacts.Candidate)) > BUDGET
    assert "the budget is spent" in prices.printed


def test_validation_publishes_what_it_discovers_as_new_analysis_work(board: View) -> None:
    found = board.artifacts(WorkDiscovery, producer="judge")
    assert found
    assert {each.payload.phase for each in found} == {"analysis"}
    planned = {plan.because for plan in board.artifacts(artifacts.Plan).payloads}
    assert {each.payload.work_id for each in found} <= planned


def test_three_methods_vote_on_every_pipeline(board: View) -> None:
    for tally in board.artifacts(Tally).payloads:
        votes = board.artifacts(Vote, where={"subject": tally.subject})
        assert {vote.producer for vote in votes} == {"cross_validator", "bootstrapper", "keeper"}
    assert {v.accepted for v in board.artifacts(artifacts.Verdict).payloads} == {True, False}


def test_two_tables_give_different_workflows(prices: Done, classes: Done) -> None:
    def kinds(done: Done) -> set[str]:
        with read(done.store, TYPES) as view:
            return {str(w.work_id).partition(":")[0] for w in view.artifacts(WorkDiscovery).payloads}

    assert {"skewed_target", "missing_values"} <= kinds(prices) - kinds(classes)
    assert {"class_imbalance", "correlated_inputs"} <= kinds(classes) - kinds(prices)


def test_noise_is_not_taken_for_progress(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    table = pd.DataFrame(random.normal(size=(80, 4)), columns=["a", "b", "c", "target"])
    table.to_csv(tmp_path / "noise.csv", index=False)
    data = load(str(tmp_path / "noise.csv"), "target", 0, tmp_path)
    said = asyncio.run(search(data, tmp_path, None, BUDGET)).text
    assert re.search(r"^best  (dummy|plain linear) ", said, re.MULTILINE)
    assert "0 of 3 pipelines beat what they improve on" in said


def crooked(path: Path) -> Path:
    """Prices with a few typing errors, twelve times and forty times too much: made even they have no way back."""
    random = np.random.default_rng(7)
    table = pd.DataFrame({"area": random.lognormal(4.5, 0.5, 200), "age": random.exponential(25, 200).round()})
    price = np.exp(8 + 0.6 * np.log(table.area) - 0.004 * table.age + random.normal(0, 0.25, 200))
    price[random.choice(200, 4, False)] *= 12
    table.loc[random.choice(200, 3, False), "area"] *= 40
    table.assign(price=price.round()).to_csv(path, index=False)
    return path


def test_outliers_and_a_skewed_target_are_noticed_and_no_pipeline_fails_on_them(tmp_path: Path) -> None:
    done = searched(crooked(tmp_path / "crooked.csv"), "price")
    assert done.code == 0
    noticed = done.printed.partition("What was noticed in the data:")[2].partition("\n\n")[0]
    assert "The target is skewed" in noticed
    assert "of a column's values are far outside" in noticed


def test_a_pipeline_that_says_no_number_or_cannot_be_fitted_counts_as_the_dummy() -> None:
    x, y = pd.DataFrame({"a": np.arange(20.0)}), pd.Series(np.arange(20.0))
    columns = Columns("y", ("a",), (), classify=False)
    speechless = TransformedTargetRegressor(
        LinearRegression(), func=np.copy, inverse_func=lambda z: np.where(z > 10, np.nan, z), check_inverse=False
    )
    said = fitted(speechless, x, y, columns)(x)
    assert said[15] == y.mean()
    assert said[3] == pytest.approx(3)
    assert list(fitted(SVR(C=-1), x, y, columns)(x)) == [y.mean()] * 20
    assert np.isfinite(cross_validate(speechless, x, y, columns).test).all()


def test_what_was_found_is_shown_also_if_some_of_the_search_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "pipelines").write_text("a file where the folder should be")
    arguments = ["--target", "price", "--budget", str(BUDGET), "--out", str(tmp_path / "out")]
    assert main([str(houses(tmp_path / "houses.csv")), *arguments]) == 1
    said = capsys.readouterr()
    assert said.err == "not all of the search ran: the report above says what is left\n"
    assert f"{BUDGET} dead letters" in said.out
    assert re.search(r"^best  (dummy|plain linear) ", said.out, re.MULTILINE)


def test_the_leaderboard_names_the_file_of_each_pipeline_and_compares_on_held_out_rows(prices: Done) -> None:
    text = (prices.out / "leaderboard.txt").read_text()
    rows = [line for line in text.partition("\n\n")[0].splitlines() if re.search(r" \d/3 ", line)]
    files = {path.stem for path in (prices.out / "pipelines").iterdir()}
    assert {re.split(r" \d/3  ", row)[1].split()[0] for row in rows} == files
    [held] = [line for line in text.splitlines() if line.startswith("On the 20 held-out rows")]
    command = [sys.executable, str(prices.out / "best_pipeline.py")]
    alone = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    score = re.findall(r"held-out R2: (-?\d\.\d{4})", alone)[0]
    assert score in held
    assert "dummy -" in held
    assert "plain linear " in held


# -- the same search, whatever happens to it --------------------------------------------------------------------------


def test_the_artifacts_do_not_depend_on_how_many_work_at_a_time(prices: Done, board: View, tmp_path: Path) -> None:
    data = load(str(prices.csv), "price", 0, tmp_path)

    async def searched_by(concurrency: int) -> list[str]:
        roster = team(data, tmp_path / "pipelines", BUDGET)
        async with Blackboard(roster=roster, concurrency=concurrency) as alone:
            await alone.publish(seed_of(data, BUDGET), key="search")
            (await alone.run_until_idle()).raise_for_failures()
            return contents(alone)

    expected = contents(board)
    assert asyncio.run(searched_by(1)) == expected
    assert asyncio.run(searched_by(6)) == expected


def test_a_search_that_was_killed_ends_with_the_same_artifacts(prices: Done, board: View, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "examples.model_search", str(prices.csv), "--target", "price"]
    command += ["--budget", str(BUDGET), "--out", str(tmp_path / "out"), "--store", str(tmp_path / "run.db")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any(line.startswith(("  rejected", "  accepted")) for line in process.stdout)
        process.kill()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    with read(tmp_path / "run.db", TYPES) as resumed:
        assert [event.clean for event in resumed.events() if isinstance(event, Opened)] == [True, False]
        assert contents(resumed) == contents(board)
    for file in ("leaderboard.txt", "discoveries.svg"):
        assert (tmp_path / "out" / file).read_text() == (prices.out / file).read_text()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_twenty_kills_at_random_moments_leave_the_same_artifacts(prices: Done, board: View, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "examples.model_search", str(prices.csv), "--target", "price"]
    command += ["--budget", str(BUDGET)]
    moments = random.Random(20)
    kills, boards = 0, 0
    while kills < 20:
        folder = tmp_path / str(boards)
        search = [*command, "--out", str(folder / "out"), "--store", str(folder / "run.db")]
        folder.mkdir()
        while kills < 20:
            with subprocess.Popen(search, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
                try:
                    process.wait(moments.uniform(1.0, 6.0))
                except subprocess.TimeoutExpired:
                    process.kill()
                    kills += 1
                    continue
            break
        subprocess.run(search, cwd=ROOT, check=True, capture_output=True)
        with read(folder / "run.db", TYPES) as resumed:
            assert contents(resumed) == contents(board)
        boards += 1


def test_a_store_goes_on_only_with_the_same_search(prices: Done, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(prices.csv), "--target", "price", "--budget", "9", "--out", str(prices.csv.parent / "other")]
    assert main([*arguments, "--store", str(prices.store)]) == 2
    assert "another --seed, --budget or --model" in capsys.readouterr().err


@pytest.mark.parametrize("order", list(permutations(range(4))), ids=str)
def test_the_choice_of_candidates_does_not_depend_on_their_order(order: tuple[int, ...]) -> None:
    waiting = [
        Waiting(11, "aaaa", (1, -0.5, "aaaa", "ref", "promising:1")),
        Waiting(12, "bbbb", (1, -0.7, "bbbb", "ref", "promising:2")),
        Waiting(13, "bbbb", (0, -0.1, "bbbb", "ref", "weak_class:3")),
        Waiting(14, "cccc", (2, -0.9, "cccc", "ref", "near_miss:4")),
    ]
    admitted, refused = choose([waiting[i] for i in order], frozenset({"aaaa"}), left=1)
    assert [w.artifact for w in admitted] == [13]
    assert {(w.artifact, why) for w, why in refused} == {
        (11, "the same pipeline is tried already"),
        (12, "the same pipeline is tried already"),
        (14, "the budget is spent"),
    }


# -- with a model as the analyst --------------------------------------------------------------------------------------


def planner(data: Dataset) -> Scripted:
    """A model that proposes what the rules would plan, and at first a parameter that does not exist."""
    measured, first = profile(data), True

    def answer(request: Request) -> str:
        nonlocal first
        (work,) = asked(request, WorkDiscovery).inputs
        assert isinstance(work, WorkDiscovery)
        about = artifacts.About.model_validate(work.metadata)
        specs = plan(str(work.work_id).partition(":")[0], Situation(measured, about.spec, about.other))
        wrong, first = first, False
        text = outputs(Proposal(plan=f"{len(specs)} ideas", pipelines=specs))
        return text.replace("min_samples_leaf", "depth") if wrong else text

    return Scripted(answer, name="planner")


@pytest.mark.parametrize(("kind", "target"), [("prices", "price"), ("classes", "fraud")])
def test_a_model_that_plans_as_the_rules_do_finds_the_same(
    kind: str, target: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    done: Done = request.getfixturevalue(kind)
    data = load(str(done.csv), target, 0, tmp_path)
    model = planner(data)
    asyncio.run(search(data, tmp_path, tmp_path / "run.db", BUDGET, model, "1.00"))
    for file in ("leaderboard.txt", "discoveries.svg"):
        assert (tmp_path / file).read_text() == (done.out / file).read_text()
    again = [request.messages[-1].text for request in model.asked]
    assert any("the parameters of forest are min_samples_leaf, max_features" in text for text in again)
    assert "forest: min_samples_leaf from 1 to 50; max_features from 0.2 to 1" in model.asked[0].messages[0].text
    with read(tmp_path / "run.db", (*TYPES, Proposal)) as view:
        proposals = view.artifacts(Proposal)
        assert {p.producer for p in proposals} == {"analyst"}
        assert {c.producer for c in view.artifacts(artifacts.Candidate)} == {"drafter"}
    found = replay(tmp_path / "run.db", team(data, tmp_path / "pipelines", BUDGET, model=model, cost="1.00"))
    assert found.ok, str(found)


BAD_IDEAS = [
    (artifacts.Spec(family="logistic", params={"C": 1.0}), "logistic is not for numbers"),
    (artifacts.Spec(family="forest", params={"min_samples_leaf": 1, "max_features": 0.5}, balanced=True), "balanced"),
]


def test_what_cannot_be_tried_on_these_data_is_left_out_and_said(prices: Done, tmp_path: Path) -> None:
    data = load(str(prices.csv), "price", 0, tmp_path)
    good = artifacts.Spec(family="ridge", params={"alpha": 9})
    ideas = Proposal(plan="Try", pipelines=[*(spec for spec, _ in BAD_IDEAS), good])
    asyncio.run(search(data, tmp_path, tmp_path / "run.db", 1, Scripted(lambda _: outputs(ideas)), "1.00"))
    with read(tmp_path / "run.db", TYPES) as view:
        (tried,) = view.artifacts(artifacts.FittedPipeline).payloads
        assert tried.candidate.spec == good.model_copy(update={"params": {"alpha": 10.0}})
        said = view.artifacts(artifacts.Plan).payloads[-1].plan
    for _, why in BAD_IDEAS:
        assert why in said


def test_an_amount_that_is_none_is_said_in_one_line(
    prices: Done, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(prices.csv), "--target", "price", "--out", str(tmp_path), "--model", "openai/x"]
    assert main([*arguments, "--cost", "much"]) == 2
    assert "it is exact money" in capsys.readouterr().err


# -- bad tables -------------------------------------------------------------------------------------------------------

NUMBERS = "\n".join(f"{i},{i % 7},{i * i % 11}" for i in range(40))
MISSING = NUMBERS.replace("\n5,5,3", "\n5,5,").replace("\n9,2,4", "\n9,2,")
BAD: dict[str, tuple[bytes | None, str]] = {
    "no such file": (None, "there is no such file"),
    "empty file": (b"", "the file is empty"),
    "blank lines only": (b"\n\n", "the file is empty"),
    "header only": (b"a,b,y\n", "0 rows under the header; at least 30"),
    "one row": (b"a,b,y\n1,2,3\n", "1 row under the header; at least 30"),
    "missing column": (f"a,b,yy\n{NUMBERS}".encode(), "no column 'y'. Did you mean 'yy'?"),
    "one column": (b"y\n1\n2\n", "only one column"),
    "two columns of one name": (f"a,a,y\n{NUMBERS}".encode(), "two columns are called 'a'"),
    "all-text target": (
        ("a,y\n" + "\n".join(f"{i},word {i}" for i in range(40))).encode(),
        "target 'y' is text with 40 different values",
    ),
    "holes in the target": (f"a,b,y\n{MISSING}".encode(), "target 'y' is empty in 2 rows, first in line 7"),
    "infinite target": (f"a,b,y\n{NUMBERS}\n1,1,inf".encode(), "infinite"),
    "constant target": (("a,y\n" + "\n".join(f"{i},3" for i in range(40))).encode(), "one value only, 3"),
    "a class of two": (
        ("a,y\n" + "\n".join(f"{i},{'rare' if i < 2 else 'common'}" for i in range(40))).encode(),
        "class 'rare' of 'y' has 2 rows",
    ),
    "nothing to learn from": (
        ("a,y\n" + "\n".join(f"text {i},{i}.5" for i in range(40))).encode(),
        "no column beside 'y' can be used: a (40 different texts)",
    ),
    "ragged lines": (f"a,b,y\n{NUMBERS}\n1,2,3,4,5".encode(), "cannot be read as a table"),
    "not text": (b"\x89PNG\r\n\x1a\n\x00\xff\xfe", "not UTF-8 text"),
    "a million columns": (",".join(f"c{i}" for i in range(1_000_000)).encode(), "the limit is 1,000"),
    "ten thousand columns": (("y," + ",".join(f"c{i}" for i in range(9_999))).encode(), "10,000 columns"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_table_gets_one_line_and_no_work(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, reason = BAD[name]
    path = tmp_path / "bad.csv"
    if content is not None:
        path.write_bytes(content)
    assert main([str(path), "--target", "y", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert reason in said.err
    assert said.err.count("\n") == 1
    assert len(said.err) < 500
    assert not (tmp_path / "out").exists()


def test_a_folder_gets_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--target", "y", "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"{tmp_path}: cannot be read: Is a directory.\n"


@pytest.mark.parametrize("sep", [",", ";", "\t", "|"])
@pytest.mark.parametrize("decimal", [".", ","])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["", "byte order mark"])
def test_the_same_table_is_read_however_it_was_saved(sep: str, decimal: str, mark: str, tmp_path: Path) -> None:
    if sep == decimal:
        pytest.skip("nobody could tell them apart")
    lines = [mark + sep.join(("größe", "b", "y"))]
    lines += [sep.join((f"{i}.5", str(i % 7), f"-{i * i % 11}.25")).replace(".", decimal) for i in range(40)]
    path = tmp_path / "saved.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    data = load(str(path), "y", 0, tmp_path)
    assert (data.columns.numbers, data.columns.classify) == (("größe", "b"), False)
    assert sorted([*data.x["größe"], *data.held_x["größe"]]) == [i + 0.5 for i in range(40)]
    assert {*data.y, *data.held_y} == {-(i * i % 11) - 0.25 for i in range(40)}


def test_a_csv_without_a_target_is_asked_for_one(prices: Done, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(prices.csv)]) == 2
    assert "--target COLUMN. The columns are area, town, age, name, price." in capsys.readouterr().err
