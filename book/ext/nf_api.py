"""The package's pages: which modules stand on which, their documented names, and the table of all."""

import ast
import importlib
import importlib.util
import inspect
import re
from pathlib import Path

from nf_book import table

#: group -> (title, what it says first, modules); a module that is not there yet is passed over
GROUPS = {
    "bijections": (
        "Spaces and bijections",
        ["nfcourse.spaces", "nfcourse.bijections.base", "nfcourse.bijections.elementwise", "nfcourse.bijections.linear",
         "nfcourse.bijections.norm", "nfcourse.bijections.image"],
    ),
    "couplings": (
        "Couplings, autoregressive layers, transformers",
        ["nfcourse.bijections.coupling", "nfcourse.bijections.autoregressive", "nfcourse.bijections.transformers"],
    ),
    "flow": ("Flows and bases", ["nfcourse.bases", "nfcourse.flow", "nfcourse.dequantize"]),
    "models": (
        "Models and networks",
        ["nfcourse.models.autoregressive", "nfcourse.models.pixel", "nfcourse.models.multiscale", "nfcourse.nets.mlp",
         "nfcourse.nets.made", "nfcourse.nets.image"],
    ),
    "train": (
        "Training and experiments",
        ["nfcourse.train.loop", "nfcourse.train.history", "nfcourse.train.files", "nfcourse.train.processes",
         "nfcourse.experiments.image_flow", "nfcourse.experiments.autoregressive_comparison"],
    ),
    "check": ("Checks and contracts", ["nfcourse.check", "nfcourse.contracts", "nfcourse.values"]),
    "data": ("Data", ["nfcourse.data.toy", "nfcourse.data.images"]),
    "pictures": (
        "Pictures",
        ["nfcourse.plot", "nfcourse.widgets", "nfcourse.schematic", "nfcourse.live", "nfcourse.show"],
    ),
}  # fmt: skip
#: modules of which only some names are for users
MEMBERS = {
    "nfcourse.bijections.base": ["Bijection", "Compose", "Inverse"],
    "nfcourse.models.autoregressive": ["NADE", "RNADE", "Autoregressive", "Recurrent"],
    "nfcourse.nets.mlp": ["MLP", "ResidualMLP"],
    "nfcourse.train.loop": ["fit", "NegativeLogLikelihood"],
    "nfcourse.train.files": ["load_weights", "save_weights"],
    "nfcourse.train.processes": ["distributed"],
    "nfcourse.check": ["answer", "average", "close", "differs", "holds", "integral", "integral_mc", "mass"],
    "nfcourse.contracts": ["check_bijection", "BijectionReport"],
    "nfcourse.values": ["validate", "draw_inputs", "randomize", "CheckFailed"],
}


def exists(module):
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def public(name):
    """The documented names of a module, in the order of its source; of a package also those that it hands on."""
    module = importlib.import_module(name)
    found = MEMBERS.get(name) or getattr(module, "__all__", None)
    if found is None:
        found = [k for k, v in vars(module).items() if not k.startswith("_") and getattr(v, "__module__", "") == name]
    home = {n: getattr(getattr(module, n), "__module__", None) or "" for n in found}
    items = [n for n in found if f"{home[n]}.".startswith(f"{name}.")]
    items = [n for n in items if inspect.isclass(getattr(module, n)) or inspect.isroutine(getattr(module, n))]
    return sorted(items, key=lambda n: (home[n], inspect.getsourcelines(inspect.unwrap(getattr(module, n)))[1]))


def constants(name):
    """Documented values of a module: those with a comment ``#:`` above them or a text below them."""
    path = Path(importlib.util.find_spec(name).origin)
    lines = path.read_text("utf8").splitlines()
    names = {}
    tree = ast.parse("\n".join(lines))
    for statement, after in zip(tree.body, [*tree.body[1:], None], strict=True):
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        for target in targets:
            if not isinstance(target, ast.Name) or target.id.startswith("_"):
                continue
            comment, k = [], statement.lineno - 2
            while k >= 0 and lines[k].startswith("#:"):
                comment.insert(0, lines[k][2:].strip())
                k -= 1
            text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and after.value.value
            if comment or isinstance(text, str):
                names[target.id] = " ".join(comment) or text.strip().splitlines()[0]
    return names if not MEMBERS.get(name) else {}


def first_line(item):
    """The first sentence of a docstring, as Markdown."""
    text = (inspect.getdoc(item) or "").split("\n\n")[0].replace("\n", " ")
    return markdown(text)


def markdown(text):
    bar = {r"\|": r"\Vert ", "|": r"\vert "}
    text = re.sub(r":math:`([^`]+)`", lambda m: "$" + re.sub(r"\\?\|", lambda b: bar[b[0]], m[1]) + "$", text)
    text = re.sub(r":\w+(?::\w+)?:`~?([^`]+)`", r"`\1`", text)
    return re.sub(r"``([^`]+)``", r"`\1`", text)


def api_table(book):
    """Every public name of the package, with the first sentence of its docstring, by module."""
    parts = []
    for group, (title, modules) in GROUPS.items():
        parts.append(f"**{{doc}}`{title} </book/api/{group}>`**")
        for name in filter(exists, modules):
            module = importlib.import_module(name)
            rows = []
            for item in public(name):
                call = "()" if inspect.isroutine(getattr(module, item)) else ""
                rows.append([f"{{py:obj}}`{item}{call} <{name}.{item}>`", first_line(getattr(module, item))])
            rows += [[f"{{py:obj}}`{item} <{name}.{item}>`", markdown(text)] for item, text in constants(name).items()]
            parts.append(f"`{name}`: {first_line(module)}\n\n" + table(["name", "what it is"], rows))
    return "\n\n".join(parts)


MAKERS = {
    "api": api_table,
}
