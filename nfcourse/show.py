"""Show the package's own source in a notebook: what the reader sees is what runs."""

import ast
import inspect
import textwrap

__all__ = ["Source", "show"]


class Source:
    """Source code that a notebook displays as a Markdown code block, which follows the page's theme.

    Attributes:
        names: Full names of the objects shown.
        codes: Their source, in the same order.
    """

    def __init__(self, names: list[str], codes: list[str]):
        self.names, self.codes = names, codes

    def __repr__(self) -> str:
        return f"Source({', '.join(self.names)})"

    def _repr_markdown_(self) -> str:
        return "\n\n".join(_block(name, code) for name, code in zip(self.names, self.codes, strict=True))


def _block(name: str, code: str) -> str:
    fence = "```"
    while fence in code:
        fence += "`"
    return f"`{name}`\n\n{fence}python\n{code}\n{fence}"


def _unwrap(obj):
    if isinstance(obj, property):
        obj = obj.fget
    if isinstance(obj, staticmethod | classmethod):
        obj = obj.__func__
    return inspect.unwrap(obj) if callable(obj) else obj


def _without_docstring(code: str) -> str:
    """Cut the docstring of the outermost definition and keep every other character, comments included."""
    definition = ast.parse(code).body[0]
    if ast.get_docstring(definition, clean=False) is None:
        return code
    first, lines = definition.body[0], code.splitlines()
    if len(definition.body) == 1:  # a body of nothing but its docstring needs one statement
        lines[first.lineno - 1 : first.end_lineno] = [" " * first.col_offset + "..."]
    else:
        end = first.end_lineno
        while end < len(lines) and not lines[end].strip():
            end += 1
        del lines[first.lineno - 1 : end]
    return "\n".join(lines)


def _source(obj, docstring: bool) -> tuple[str, str]:
    target = _unwrap(obj)
    if not (inspect.isclass(target) or inspect.isfunction(target) or inspect.ismethod(target)):
        hint = ""
        if type(target).__module__ != "builtins":
            hint = f"; did you mean show({type(target).__name__})?"
        raise ValueError(f"show expects a class, a function or a method, got {type(target).__name__}{hint}")
    name = f"{target.__module__}.{target.__qualname__}"
    try:
        code = textwrap.dedent(inspect.getsource(target)).rstrip()
    except (OSError, TypeError) as error:
        raise ValueError(f"show expects an object that is written in a Python file; {name} has no source.") from error
    return name, code if docstring else _without_docstring(code)


def show(obj, *more, docstring: bool = True) -> Source:
    """Show the source of classes, functions or methods, each under its full name.

    Let the call be the last line of a cell.

    Args:
        obj: A class, function, method or property.
        *more: Further ones.
        docstring: Whether to keep the docstring, which names the equation that the code implements.

    Returns:
        An object that a notebook displays as Markdown.

    Raises:
        ValueError: If an object is something else, or has no Python source.

    Example:
        >>> show(show)
        Source(nfcourse.show.show)
    """
    names, codes = zip(*(_source(o, docstring) for o in (obj, *more)), strict=True)
    return Source(list(names), list(codes))
