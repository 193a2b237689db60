"""The type checker of the tests: of all annotations it enforces those that state a shape or a dtype.

Plain classes are left out on purpose. The package answers a wrong argument with a ValueError that says what was
expected, the tests ask for that very error, and a type checker in front would never let them see it.
"""

import functools
import typing

import jaxtyping
from beartype import beartype


def _states_a_shape(hint):
    inner = typing.get_args(hint)
    return any(map(_states_a_shape, inner)) if inner else isinstance(hint, jaxtyping._array_types._MetaAbstractArray)


def checker(function):
    """Decorate a function: its shapes are checked at each call, its other annotations are not."""
    hints = getattr(function, "__annotations__", {})
    function.__annotations__ = {name: hint for name, hint in hints.items() if _states_a_shape(hint)}
    checked = beartype(function)
    function.__annotations__ = hints
    return functools.wraps(function)(checked) if checked is not function else function
