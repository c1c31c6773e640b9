"""Amounts of money, exact: US dollars.

An amount is a `Decimal`, and a text in JSON. A float would lose parts of a cent over many calls, and the sum
would depend on the order of the calls. The cost of one call has `PLACES` decimal places at most, so whoever
adds such texts gets the same sum.
"""

from __future__ import annotations

from decimal import Context, Decimal
from typing import Annotated

from pydantic import Field, PlainSerializer

PLACES = 12
"""The most decimal places of the cost of a call."""
_SMALLEST = Decimal((0, (1,), -PLACES))
_EXACT = Context(prec=100)
"""The context of all sums: workflow code may have changed that of its thread."""


def plain(amount: Decimal) -> str:
    """Return an amount in digits, without an exponent and without zeros that say nothing."""
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def rounded(amount: Decimal) -> Decimal:
    """Return an amount with at most `PLACES` decimal places."""
    return Decimal(plain(amount.quantize(_SMALLEST, context=_EXACT)))


def plus(one: Decimal, other: Decimal) -> Decimal:
    """Return the exact sum."""
    return _EXACT.add(one, other)


def minus(one: Decimal, other: Decimal) -> Decimal:
    """Return the exact difference."""
    return _EXACT.subtract(one, other)


def times(price: Decimal, count: int, of: Decimal = Decimal(1)) -> Decimal:
    """Return the exact price of `count` things, where `price` is that of one, or of one divided by `of`."""
    return _EXACT.multiply(_EXACT.multiply(price, Decimal(count)), of)


def dollars(amount: Decimal) -> str:
    """Return an amount for people: rounded to a hundredth of a cent, or to cents if it is large."""
    if amount < Decimal("0.0001"):
        return "<$0.0001" if amount else "$0"
    return f"${amount:,.2f}" if amount >= 100 else f"${amount:.4f}"


Amount = Decimal | float | str
"""An amount as a caller gives it; a float counts as the number that it is printed as."""

Money = Annotated[Decimal, Field(allow_inf_nan=False), PlainSerializer(plain, return_type=str)]
"""An amount, in a value that goes to JSON and back."""
