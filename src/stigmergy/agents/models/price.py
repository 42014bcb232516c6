"""What tokens cost: exact sums of decimal prices, given or looked up in litellm's list."""

import json
import re
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stigmergy.agents.models.model import Usage
from stigmergy.blackboard.definitions import is_money
from stigmergy.blackboard.errors import DefinitionError

_PRICES = "model_prices_and_context_window_backup.json"
Exact = Decimal | str | int
_MILLION = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars for a million tokens, exact: text, Decimal or int, never a float.

    Args:
        cached: for input that the provider had kept; None = as other input.
        written: for input that the provider is paid to keep; None = as other input.
        reasoning: for output that is not in the text; None = as other output.

    Raises:
        DefinitionError: one is no exact amount.
    """

    input: Exact
    output: Exact
    cached: Exact | None = None
    written: Exact | None = None
    reasoning: Exact | None = None

    def __post_init__(self) -> None:
        for name in ("input", "output", "cached", "written", "reasoning"):
            value: object = getattr(self, name)
            if isinstance(value, float):
                raise DefinitionError(f'Price({name}={value}): a float is not exact. Write {name}="{value}".')
            if not is_money(value) and not (value is None and name not in ("input", "output")):
                raise DefinitionError(f"Price({name}={value!r}): it is dollars for a million tokens, from 0.")

    def cost(self, usage: Usage) -> Decimal:
        """What these tokens cost, in dollars."""
        read, made = Decimal(self.input), Decimal(self.output)
        parts = (
            (usage.input - usage.cached - usage.written, read),
            (usage.cached, read if self.cached is None else Decimal(self.cached)),
            (usage.written, read if self.written is None else Decimal(self.written)),
            (usage.output - usage.reasoning, made),
            (usage.reasoning, made if self.reasoning is None else Decimal(self.reasoning)),
        )
        return sum((max(count, 0) * price for count, price in parts), Decimal(0)) / _MILLION


@dataclass(frozen=True, slots=True)
class Listed:
    """What litellm's list says of a model.

    Attributes:
        prices: the number of input tokens above which a price holds, and that price, ascending; empty = unknown.
        max_output: tokens of the longest reply; None = unknown.
        schemas: whether the provider holds replies to a JSON schema.
    """

    prices: tuple[tuple[int, Price], ...] = ()
    max_output: int | None = None
    schemas: bool = False

    def cost(self, usage: Usage) -> Decimal | None:
        """What these tokens cost at the provider's standard rate at its full hours, in dollars; None = unknown."""
        holding = [price for above, price in self.prices if usage.input > above or above == 0]
        return holding[-1].cost(usage) if holding else None


UNLISTED = Listed()


def listed(model: str) -> Listed:
    """What litellm's bundled list says of a model, read from its file: importing litellm takes seconds."""
    entries = _entries()
    provider, _, name = model.partition("/")
    entry = entries.get(model)
    if entry is None and str(entries.get(name, {}).get("litellm_provider", "")).startswith(provider):
        entry = entries[name]
    if entry is None:
        return UNLISTED
    most = entry.get("max_output_tokens", entry.get("max_tokens"))
    return Listed(_prices(entry), int(most) if most else None, bool(entry.get("supports_response_schema")))


def _prices(entry: dict[str, Any]) -> tuple[tuple[int, Price], ...]:
    ranges = entry.get("tiered_pricing")
    if ranges:
        return tuple((int(tier["range"][0]), _price({**entry, **tier}, "")) for tier in ranges if "range" in tier)
    if entry.get("input_cost_per_token") is None or entry.get("output_cost_per_token") is None:
        return ()
    found = (re.fullmatch(r"input_cost_per_token(_above_(\d+)k_tokens)", name) for name in entry)
    above = sorted((int(tier[2]) * 1000, tier[1]) for tier in found if tier)
    return ((0, _price(entry, "")), *((count, _price(entry, suffix)) for count, suffix in above))


def _price(entry: dict[str, Any], suffix: str) -> Price:
    def rate(name: str) -> Decimal | None:
        value = entry.get(name + suffix, entry.get(name))
        return None if value is None else Decimal(value) * _MILLION

    return Price(
        rate("input_cost_per_token") or Decimal(0),
        rate("output_cost_per_token") or Decimal(0),
        rate("cache_read_input_token_cost"),
        rate("cache_creation_input_token_cost"),
        rate("output_cost_per_reasoning_token"),
    )


def _entries() -> dict[str, dict[str, Any]]:
    spec = find_spec("litellm")
    folders = spec.submodule_search_locations if spec is not None else None
    files = [Path(folder) / _PRICES for folder in folders or ()]
    return next((_read(file) for file in files if file.exists()), {})


@cache
def _read(file: Path) -> dict[str, dict[str, Any]]:
    entries: dict[str, dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"), parse_float=Decimal)
    return entries
