"""Another model answers when the first cannot."""

from decimal import Decimal

from stigmergy.agents.models.errors import BadModel, BadRequest, ModelError, UnknownPrice
from stigmergy.agents.models.model import Estimate, Model, OnToken, Reply, Request
from stigmergy.agents.models.resolve import as_model


class FallbackModel:
    """Asks the next model when one fails; the reply says who answered.

    A request that is refused as it is goes to nobody else, and neither does one whose price is unknown. What a model
    has streamed before it failed has been shown; the next one starts anew.

    Args:
        models: in the order in which they are asked; names of models will do.
    """

    def __init__(self, *models: Model | str) -> None:
        if not models:
            raise BadModel("FallbackModel() has no model. Give at least one.")
        self._models = tuple(map(as_model, models))
        self.name = " or ".join(model.name for model in self._models)

    def estimate(self, request: Request, /) -> Estimate:
        """What the dearest of them may cost: those that failed before it answered are not paid."""
        estimates = [model.estimate(_to(model, request)) for model in self._models]
        costs = [estimate.cost for estimate in estimates if estimate.cost is not None]
        return Estimate(
            tokens=max(estimate.tokens for estimate in estimates),
            cost=max(costs, default=Decimal(0)) if len(costs) == len(estimates) else None,
        )

    async def complete(self, request: Request, /, on_token: OnToken | None = None) -> Reply:
        """The reply of the first model that has one.

        Raises:
            ModelError: all failed; of the kind of the first failure that is worth another try, else of the last.
        """
        failures: list[ModelError] = []
        for model in self._models:
            try:
                reply = await model.complete(_to(model, request), on_token)
            except (BadRequest, UnknownPrice):
                raise
            except ModelError as error:
                failures.append(error)
                continue
            return reply if reply.model else reply.model_copy(update={"model": model.name})
        if len(failures) == 1:
            raise failures[0]
        kind = next((failure for failure in failures if failure.retryable), failures[-1])
        said = "; ".join(map(str, failures))
        charged = any(failure.charged for failure in failures)
        text = f"all {len(failures)} models failed: {said}"
        raise type(kind)(text, retry_after=kind.retry_after, charged=charged) from kind


def _to(model: Model, request: Request) -> Request:
    return request.model_copy(update={"model": model.name})
