"""What tokens cost."""

import sys
from decimal import Decimal
from importlib import import_module
from typing import Any

import pytest

from stigmergy.agents.models.model import Usage
from stigmergy.agents.models.price import UNLISTED, Price, listed
from stigmergy.blackboard.errors import DefinitionError

LARGE = ("openai", "anthropic", "gemini", "mistral", "deepseek", "xai")
HUGE = Usage(input=300_000, output=20_000, cached=100_000)
SMALL = Usage(input=1_000, output=200, cached=300)


def test_sums_are_exact_and_floats_are_refused() -> None:
    price = Price("0.1", Decimal("0.2"))
    assert price.cost(Usage(input=1, output=1)) == Decimal("0.0000003")
    with pytest.raises(DefinitionError, match=r'Write input="0.1"'):
        Price(0.1, "1")  # type: ignore[arg-type]
    for wrong in ("cheap", "-1", "nan", None):
        with pytest.raises(DefinitionError, match=r"Price\(output=.*: it is dollars for a million tokens"):
            Price("1", wrong)  # type: ignore[arg-type]


def test_parts_of_tokens_have_prices_of_their_own_or_that_of_the_whole() -> None:
    usage = Usage(input=100, output=50, cached=30, written=20, reasoning=10)
    assert Price("1", "2").cost(usage) * 1_000_000 == 100 + 2 * 50
    apart = Price("1", "2", cached="0.1", written="3", reasoning="7")
    assert apart.cost(usage) * 1_000_000 == 50 + 3 + 60 + 80 + 70


def test_a_listed_model_is_found_with_and_without_its_provider_and_no_other_provider_s() -> None:
    assert listed("openai/gpt-4.1") == listed("gpt-4.1") != UNLISTED
    assert listed("openai/gpt-4.1").cost(Usage(input=1_000_000)) == Decimal(2)
    assert listed("nobody/gpt-4.1") is UNLISTED
    assert listed("openai/nothing-of-that-name").cost(SMALL) is None


def test_the_list_is_looked_for_again_when_litellm_was_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as missing:
        missing.setitem(sys.modules, "litellm", None)
        assert listed("openai/gpt-4.1") is UNLISTED
    assert listed("openai/gpt-4.1") is not UNLISTED


@pytest.mark.xdist_group("litellm")
@pytest.mark.parametrize("usage", [SMALL, HUGE], ids=["small", "huge"])
def test_prices_agree_with_litellm_s_own_sums_for_every_model_of_the_large_providers(
    usage: Usage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    litellm: Any = import_module("litellm")
    theirs = litellm.Usage(
        prompt_tokens=usage.input, completion_tokens=usage.output,
        prompt_tokens_details=litellm.types.utils.PromptTokensDetailsWrapper(cached_tokens=usage.cached),
    )  # fmt: skip
    compared, wrong = 0, []
    for name, entry in litellm.model_cost.items():
        provider = entry.get("litellm_provider")
        full = name if name.startswith(f"{provider}/") else f"{provider}/{name}"
        off_peak = "off_peak_pricing" in litellm.model_cost.get(full, entry)  # ours is the full price at any hour
        if provider not in LARGE or entry.get("mode") != "chat" or off_peak:
            continue
        ours = listed(full).cost(usage)
        if ours is None:
            continue
        read, made = litellm.cost_per_token(model=full, usage_object=theirs)
        compared += 1
        if float(ours) != pytest.approx(read + made):
            wrong.append((full, ours, read + made))
    assert compared > 100
    assert wrong == []
