"""The words of the command line, each an override in Hydra's own grammar."""

from collections.abc import Set
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from core.errors import UserError


def parse_word(argument: str, text_keys: Set[str]) -> Override:
    """One `key=value`. Raises: UserError.

    text_keys: keys whose value is taken as it is where Hydra's grammar would read or refuse it as something else.
    """
    key, equals, value = argument.partition("=")
    if not equals:
        raise UserError(f"{argument}: write key=value, such as study=augment_pairs")
    parser = OverridesParser.create()
    try:
        override = parser.parse_override(argument)
        is_text = not override.is_sweep_override() and isinstance(override.value(), str | None)
        fault = None
    except HydraException as error:
        is_text, fault = False, str(error).splitlines()[0]
    if not is_text and key in text_keys:
        override = parser.parse_override(f"{key}={QuotedString(value, Quote.single).with_quotes()}")
    elif fault:
        raise UserError(f"{argument}: {fault}")
    return override


def key_of(override: Override) -> str:
    return override.get_key_element()


def text_of(override: Override) -> str:
    return override.input_line or ""


def values_of(override: Override) -> list[Any]:
    """One value, or several where the user wrote `a,b` or range(..)."""
    if override.is_sweep_override():
        return [_unquoted(value) for value in override.sweep_iterator()]
    return [override.value()]


def _unquoted(value: Any) -> Any:
    return value.text if isinstance(value, QuotedString) else value
