"""One symbol, one meaning: the table of the notation page rules, and each rule here is one that readers saw broken."""

import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = sorted((ROOT / "chapters").glob("*.ipynb"))
# these two quote the notation of papers and of notes
PAGES = [p for p in sorted((ROOT / "book").glob("*.md")) if p.stem not in {"companion", "questions"}]
NOTATION = (ROOT / "book" / "notation.md").read_text("utf8")

MATH = re.compile(
    r"\$\$.*?\$\$|(?P<fence>[`:~]{3,})\{math\}.*?(?P=fence)|\{math\}`[^`]+`|(?<![\\$])\$(?:\\.|[^$\\])+\$", re.DOTALL
)

# symbol in the table: (where it is looked for, a use that clashes, an example of one, an example that is none)
RULES = {
    r"$\lambda_D$": ("prose", r"(λ|\\lambda\$?)-systems?|π[–-]λ", "a λ-system", r"the measure $\lambda_D$"),
    r"$\pi$": ("prose", r"(π|\\pi\$?)-systems?", r"a $\pi$-system", r"the circumference $2\pi$"),
    r"$\delta_a$": (
        "math",
        r"\\lambda_\{?n\b|\\(math(bb|bf)\s*\{?R\}?|R)\s*\^\s*\{?\s*n\b(?!\s*\\times)",
        r"$\mathbb{R}^n$",
        r"$\mathbb R^D$",
    ),
    r"$M$": ("math", r"\\mathbb\s*(\{1\}|1)|𝟙|\\math(bb|bf)\s*(\{I\}|I\b)", r"$r\mathbb{1}$", r"$\mathbf 1_A + I$"),
    r"$\kappa(x, \dd z)$": (
        "math",
        r"(?<![A-Za-z\\_])K\s*\(|(?<![A-Za-z\\_])K\s*(w|ww|w\s*w)\b",
        r"$K(x, \mathrm dz)$",
        r"$\sum_{k=1}^K \kappa(x, B)$",
    ),
    r"$T$": ("math", r"(?<![A-Za-z\\_{^])T(?=A\b|[^A-Za-z}>])|J_\{?T\b", r"$\lambda(TA) = T(w)$", r"$M^\top M$"),
    r"$H$": (
        "code",
        r"^\s*(\w*entropy\w*|H)\b[^=\n]*=(?![\s(]*-)[^\n]*(log_prob|logpdf)",
        "entropy = law.log_prob(x).mean()",
        "entropy = -law.log_prob(x).mean()",
    ),
    r"$s$": ("prose", r"slope \$s\b", r"of mean slope $s = h/w$", r"mean slope $\bar d = h/w$"),
    r"$\varphi$": ("math", r"\\phi(?![A-Za-z])|ϕ", r"$\phi(x)$", r"$\varphi(x) + \Phi(x)$"),
}

# where a symbol of a rule stands in its own meaning
ALLOWED = {
    r"$T$": {"11_images", "notation"},  # temperatures
    r"$\delta_a$": {"08_simple_flows"},  # the values of a coordinate over a batch of n points
}


def parts(path):
    """Return the text, the formulas and the code of a chapter or a page."""
    if path.suffix == ".md":
        prose, code = path.read_text("utf8"), ""
    else:
        cells = nbformat.read(path, as_version=4).cells
        prose = "\n\n".join(c.source for c in cells if c.cell_type == "markdown")
        code = "\n\n".join(c.source for c in cells if c.cell_type == "code")
    code += "\n".join(re.findall(r"^```(?:python|bash)\n(.*?)^```", prose, re.MULTILINE | re.DOTALL))
    prose = re.sub(r"^```(?:python|bash)\n.*?^```", "", prose, flags=re.MULTILINE | re.DOTALL)
    written = re.sub(r"(?<!\{math\})`[^`\n{}]+`", "", prose)  # what stands in backquotes is code, or a formula
    return {"prose": prose, "math": "\n".join(m[0] for m in MATH.finditer(written)), "code": code}


def clashes(symbol, text):
    pattern = re.compile(RULES[symbol][1], re.MULTILINE)
    return [text[max(0, m.start() - 40) : m.end() + 40].replace("\n", " ") for m in pattern.finditer(text)]


@pytest.mark.parametrize("symbol", RULES)
def test_each_rule_finds_its_clash_and_no_other(symbol):
    _, _, clash, fine = RULES[symbol]
    assert clashes(symbol, clash) and not clashes(symbol, fine)
    assert re.search(rf"^\|[^|]*{re.escape(symbol)}", NOTATION.replace(r"\|", "‖"), re.MULTILINE), (
        "the rule has no row in the table of the notation page"
    )


@pytest.mark.parametrize(
    "text",
    ["$$\nT(w)\n$$", "```{math}\nT(w)\n```", ":::{math}\nT(w)\n:::", "{math}`T(w)`", r"\$5 and $T(w)$", "$T(w)$"],
)
def test_formulas_are_found_however_they_are_written(text, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"Words. {text}\n\n`code` and $x$\n", "utf8")
    assert clashes(r"$T$", parts(page)["math"])


@pytest.mark.parametrize("path", [*CHAPTERS, *PAGES], ids=lambda p: p.stem)
def test_one_symbol_has_one_meaning(path):
    found = {
        symbol: here
        for symbol, (where, *_) in RULES.items()
        if path.stem not in ALLOWED.get(symbol, ()) and (here := clashes(symbol, parts(path)[where]))
    }
    assert not found, found


def test_the_table_says_each_symbol_once():
    rows = re.findall(r"^\| (.+?) \|", NOTATION.split("## One direction")[0].replace(r"\|", "‖"), re.MULTILINE)[2:]
    symbols = [s for row in rows for s in re.findall(r"\$[^$]+\$", row)]
    assert len(symbols) > 40 and len(set(symbols)) == len(symbols), sorted(s for s in symbols if symbols.count(s) > 1)
