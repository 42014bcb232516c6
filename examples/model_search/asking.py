"""A language model as the analyst: it proposes pipelines, and code decides which of them can be tried.

A proposal that names what does not exist is refused with the reason, and the model is asked again. What is built,
voted on and judged, and when, is the business of the same agents as without a model.
"""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

from examples.model_search.artifacts import About, Candidate, DatasetProfile, Plan, Spec, Verdict
from examples.model_search.pipelines import FAMILIES, plain_linear
from stigmergy import Ask, Briefing, Context, ContextRequest, Retry, Roster, WorkDiscovery

MOST = 6


def _on_ladders(spec: Spec) -> Spec:
    """The pipeline with each parameter on the nearest rung of its ladder."""
    ladders = FAMILIES[spec.family].ladders
    if spec.family == "dummy":
        raise ValueError("dummy is what all pipelines are compared with. Propose another family.")
    if spec.params.keys() != ladders.keys():
        raise ValueError(f"the parameters of {spec.family} are {', '.join(ladders) or 'none'}. Give all of them.")
    if spec.blend is not None and spec.blend.blend is not None:
        raise ValueError("only two pipelines can be averaged.")
    params = {name: min(ladders[name], key=lambda rung: abs(rung - value)) for name, value in spec.params.items()}
    blend = spec.blend and _on_ladders(spec.blend)
    return spec.model_copy(update={"params": params, "blend": blend})


class Proposal(BaseModel):
    """Why which pipelines are worth trying because of the discovery; none if nothing is left to try."""

    plan: str
    pipelines: list[Annotated[Spec, AfterValidator(_on_ladders)]] = Field(max_length=MOST)


class Guide(BaseModel):
    """What the analyst has to know to propose pipelines."""

    task: str
    families: list[str]
    options: list[str]


def guide(classify: bool) -> Guide:
    """The families that suit the task, with the values that their parameters take."""
    families = [
        f"{name}: {'; '.join(f'{p} from {rungs[0]:g} to {rungs[-1]:g}' for p, rungs in kind.ladders.items()) or 'none'}"
        for name, kind in FAMILIES.items()
        if (kind.classifier if classify else kind.regressor) is not None and name != "dummy"
    ]
    return Guide(
        task="classification" if classify else "regression",
        families=families,
        options=[
            "even_target is for regression, balanced for classification (but not for neighbours)",
            "scale is none for forest and boosting, and mostly standard for the others",
            "blend is null, or a second pipeline with whose predictions this one's are averaged; not with svm in "
            "classification",
        ],
    )


def unsuitable(spec: Spec, classify: bool) -> str:
    """Why a pipeline cannot be tried on such data; "" if it can."""
    for one in (spec, *((spec.blend,) if spec.blend else ())):
        kind = FAMILIES[one.family]
        if (kind.classifier if classify else kind.regressor) is None:
            return f"{one.family} is not for {'classes' if classify else 'numbers'}"
        if one.balanced and (not classify or one.family == "neighbours"):
            return f"{one.family} cannot be balanced here"
        if classify and spec.blend is not None and one.family == "svm":
            return "svm gives no probabilities to average"
    return ""


class Surroundings:
    """Tells the analyst what the data are like, what it may propose, and what became of what was tried."""

    def __init__(self, classify: bool) -> None:
        self._guide = guide(classify)

    async def provide(self, request: ContextRequest, /) -> Briefing:
        """The guide, the profile and all verdicts so far."""
        past = [*request.artifacts(DatasetProfile), *request.artifacts(Verdict)]
        return Briefing((self._guide,), tuple(sorted(past, key=lambda a: a.id)))


def add_analyst(roster: Roster, classify: bool) -> None:
    """The agents that take the place of the analyst: one that proposes, one that makes candidates of it."""

    async def draft(proposal: Proposal, ctx: Context) -> list[Candidate | Plan]:
        work = next(a.payload for a in reversed(ctx.past) if isinstance(a.payload, WorkDiscovery))
        because, about = str(work.work_id), About.model_validate(work.metadata)
        left_out = {spec: why for spec in proposal.pipelines if (why := unsuitable(spec, classify))}
        known = {about.spec, plain_linear(classify), *left_out}
        specs = [spec for spec in dict.fromkeys(proposal.pipelines) if spec not in known]
        candidates = [
            Candidate(
                spec=spec, reference=about.reference, because=because, priority=work.priority, promise=about.promise
            )
            for spec in specs
        ]
        text = proposal.plan + "".join(f"; left out: {why}" for why in left_out.values())
        return [*candidates, Plan(because=because, plan=text, candidates=[spec.digest for spec in specs])]

    (
        roster.agent("analyst").phase("analysis")
        .description("Proposes the pipelines that are most worth trying because of a discovery, and says why.")
        .limits(retry=Retry(attempts=3, backoff=1)).model(ask=Ask(max_tokens=2_000))
        .context(Surroundings(classify))
        .consumes(WorkDiscovery, where={"phase": "analysis"}, producer=("profiler", "judge"))
        .publishes(Proposal, fan_out=1)
    )  # fmt: skip
    (
        roster.agent("drafter").phase("analysis").description("Makes candidates of a proposal")
        .consumes(Proposal)
        .publishes(Candidate, Plan)
        .body(draft)
    )  # fmt: skip
