"""Who works on the search: agents of three phases that meet only on the board, three voters, and the frontier.

Every body is deterministic: what it publishes follows from its inputs, the data and the seed, and from nothing else.
That is why a search that was killed ends with the same artifacts as one that was not. A language model as its analyst
is asked once, and then its replies are on record.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from examples.model_search.artifacts import (
    About,
    Baseline,
    Candidate,
    CrossValidation,
    DatasetProfile,
    FittedPipeline,
    Plan,
    Spec,
    Verdict,
)
from examples.model_search.asking import add_analyst
from examples.model_search.data import Dataset
from examples.model_search.frontier import Frontier
from examples.model_search.pipelines import DUMMY, plain_linear
from examples.model_search.planning import Situation, plan
from examples.model_search.profile import Finding, data_findings, error_findings, pipeline_findings, profile
from examples.model_search.standalone import fitted_score, render
from examples.model_search.validate import (
    Opinion,
    by_bootstrap,
    by_cross_validation,
    by_held_out,
    scored_folds,
)
from stigmergy import Artifact, Consensus, Limits, Roster, Tally, Vote, WorkDiscovery
from stigmergy.models import Model

CONCURRENCY = 2
Method = Callable[[Dataset, Spec, Spec], Opinion]


def team(
    data: Dataset, folder: Path, budget: int, tell: Callable[[Verdict], None] = lambda _: None, *,
    model: Model | None = None, cost: str | None = None,
) -> Roster:  # fmt: skip
    """The agents of a search.

    Args:
        folder: where pipeline files are written.
        budget: how many pipelines may be tried.
        tell: called with every verdict, for people who wait; it may be called again after a crash.
        model: takes the place of the analyst; None = what to try is planned by rules.
        cost: dollars that it may take.
    """
    roster = Roster(concurrency=CONCURRENCY, model=model, limits=Limits(cost=cost))
    _profiling(roster, data)
    if model is None:
        _planning(roster, data)
    else:
        add_analyst(roster, data.columns.classify)
    _implementation(roster, data, folder)
    _voting(roster, data)
    _validation(roster, data, tell)
    roster.add(Frontier(budget, builder="implementer"))
    return roster


def seed_of(data: Dataset, budget: int, model: str = "") -> WorkDiscovery:
    """The one piece of work that a user publishes. A store goes on only with the same."""
    return WorkDiscovery(
        description=f"Find a pipeline that predicts {data.columns.target!r} of {data.name}",
        phase="analysis",
        done_definition="Nothing promising is left to try, or the budget is spent",
        work_id="search",
        metadata={"data": data.digest, "seed": data.columns.seed, "budget": budget}
        | ({"analyst": model} if model else {}),
    )


def _profiling(roster: Roster, data: Dataset) -> None:
    def profiler(work: WorkDiscovery) -> list[DatasetProfile | WorkDiscovery | Plan]:
        measured, plain = profile(data), plain_linear(data.columns.classify)
        about = About(spec=plain, reference=plain, other=plain, promise=_mean(scored_folds(data, plain).test))
        findings = [*data_findings(measured), *error_findings(data, plain)]
        found = [_discovery(finding, "data", "profiler", about) for finding in findings]
        text = f"{len(found)} things to investigate"
        return [measured, *found, Plan(because=str(work.work_id), plan=text, candidates=[])]

    (
        roster.agent("profiler").phase("analysis").description("Profiles the data and says what to investigate")
        .consumes(WorkDiscovery, where={"phase": "analysis"}, producer="outside")
        .publishes(DatasetProfile, WorkDiscovery, Plan)
        .body(profiler)
    )  # fmt: skip


def _planning(roster: Roster, data: Dataset) -> None:
    def analyst(work: WorkDiscovery) -> list[Candidate | Plan]:
        because, about = str(work.work_id), About.model_validate(work.metadata)
        specs = plan(because.partition(":")[0], Situation(profile(data), about.spec, about.other))
        candidates = [
            Candidate(
                spec=spec, reference=about.reference, because=because, priority=work.priority, promise=about.promise
            )
            for spec in specs
        ]
        text = "try " + "; ".join(spec.label for spec in specs) if specs else "nothing left to try"
        # The frontier opens a round when the last plan is there, so the plan stands behind its candidates.
        return [*candidates, Plan(because=because, plan=text, candidates=[spec.digest for spec in specs])]

    (
        roster.agent("analyst").phase("analysis").description("Plans which pipelines to try because of a discovery")
        .consumes(WorkDiscovery, where={"phase": "analysis"}, producer=("profiler", "judge"))
        .publishes(Candidate, Plan)
        .body(analyst)
    )  # fmt: skip


def _implementation(roster: Roster, data: Dataset, folder: Path) -> None:
    def implementer(candidate: Candidate) -> FittedPipeline | Verdict:
        spec = candidate.spec
        try:
            score = fitted_score(spec, data)
        except ValueError as error:  # what scikit-learn raises when a pipeline cannot learn from these data
            return _unfit(candidate, " ".join(str(error).split())[:200])
        name = f"{spec.digest}.py"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(render(spec, data, folder, {"fitted": score}), encoding="utf-8")
        return FittedPipeline(candidate=candidate, label=spec.label, file=name, score_when_fitted=score)

    (
        roster.agent("implementer").phase("implementation").description("Builds, fits and writes a pipeline")
        .consumes(Candidate)
        .publishes(FittedPipeline, Verdict)
        .body(implementer)
    )  # fmt: skip


def _voting(roster: Roster, data: Dataset) -> None:
    def cross_validator(fitted: Artifact[FittedPipeline]) -> list[CrossValidation | Vote]:
        candidate = fitted.payload.candidate
        opinion, vote = _judged(data, fitted, by_cross_validation)
        folds = scored_folds(data, candidate.spec)
        scored = CrossValidation(
            subject=fitted.id, candidate=candidate, mean=_mean(folds.test), spread=_spread(folds.test),
            train=_mean(folds.train), error=_mean(folds.error),
            ahead=round(opinion.ahead, 6), noise=round(opinion.noise, 6),
        )  # fmt: skip
        return [scored, vote]

    def bootstrapper(fitted: Artifact[FittedPipeline]) -> Vote:
        return _judged(data, fitted, by_bootstrap)[1]

    def keeper(fitted: Artifact[FittedPipeline]) -> Vote:
        return _judged(data, fitted, by_held_out)[1]

    voters = [
        roster.agent("cross_validator").phase("validation").description("Votes by repeated cross-validation")
        .consumes(FittedPipeline).publishes(CrossValidation, Vote).body(cross_validator),
        roster.agent("bootstrapper").phase("validation").description("Votes by resampling the rows")
        .consumes(FittedPipeline).publishes(Vote).body(bootstrapper),
        roster.agent("keeper").phase("validation").description("Keeps the held-out rows, and votes by them")
        .consumes(FittedPipeline).publishes(Vote).body(keeper),
    ]  # fmt: skip
    roster.add(Consensus(options=("accept", "reject"), voters=voters, rule="majority", quorum=len(voters)))


def _validation(roster: Roster, data: Dataset, tell: Callable[[Verdict], None]) -> None:
    def baseline(measured: DatasetProfile) -> list[Baseline]:
        found = []
        for name, spec in (("dummy", DUMMY), ("plain linear", plain_linear(data.columns.classify))):
            folds = scored_folds(data, spec)
            mean, spread, error = _mean(folds.test), _spread(folds.test), _mean(folds.error)
            found.append(Baseline(name=name, spec=spec, mean=mean, spread=spread, error=error))
        return found

    def judge(scored: CrossValidation, tally: Tally) -> list[WorkDiscovery | Verdict]:
        candidate, accepted = scored.candidate, tally.result == "accept"
        spec = candidate.spec
        reference = spec if accepted else candidate.reference
        about = About(spec=spec, reference=reference, other=candidate.reference, promise=scored.mean)
        findings = pipeline_findings(data, scored, accepted=accepted)
        found = [_discovery(finding, spec.digest, "judge", about) for finding in findings]
        votes = f"{tally.counts['accept']}/{tally.cast}"
        verdict = Verdict(
            digest=spec.digest, label=spec.label, accepted=accepted, votes=votes, mean=scored.mean,
            spread=scored.spread, error=scored.error, because=candidate.because,
            found=[str(work.work_id) for work in found], reason=tally.reason,
        )  # fmt: skip
        tell(verdict)
        return [*found, verdict]  # the verdict last: it closes the candidate for the frontier

    (
        roster.agent("baseline").phase("validation").description("Scores what everything is compared with")
        .consumes(DatasetProfile)
        .publishes(Baseline)
        .body(baseline)
    )  # fmt: skip
    (
        roster.agent("judge").phase("validation").description("Says what became of a pipeline, and what to investigate")
        .consumes(CrossValidation, Tally, by="subject")
        .publishes(WorkDiscovery, Verdict)
        .body(judge)
    )  # fmt: skip


def _judged(data: Dataset, fitted: Artifact[FittedPipeline], method: Method) -> tuple[Opinion, Vote]:
    candidate = fitted.payload.candidate
    opinion = method(data, candidate.spec, candidate.reference)
    worth = method(data, candidate.spec, DUMMY)
    option = "accept" if opinion.accept and worth.accept else "reject"
    reason = opinion.reason if worth.accept else f"{opinion.reason}; against the dummy: {worth.reason}"
    return opinion, Vote(subject=fitted.id, option=option, reasoning=reason)


def _unfit(candidate: Candidate, why: str) -> Verdict:
    return Verdict(
        digest=candidate.spec.digest, label=candidate.spec.label, accepted=False, votes="-", mean=None, spread=None,
        error=None, because=candidate.because, found=[], reason=f"could not be fitted: {why}",
    )  # fmt: skip


def _discovery(finding: Finding, name: str, by: str, about: About) -> WorkDiscovery:
    """A finding as work for the analysts, with all that they need to know of it."""
    return WorkDiscovery(
        description=finding.text,
        phase="analysis",
        priority=finding.priority,
        done_definition="A plan says which pipelines to try because of this",
        discovered_by=by,
        work_id=f"{finding.kind}:{name}",
        metadata=about.model_dump(mode="json"),
    )


def _mean(values: np.ndarray) -> float:
    return round(float(np.mean(values)), 6)


def _spread(values: np.ndarray) -> float:
    return round(float(np.std(values)), 6)
