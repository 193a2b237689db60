"""The plain editions of the chapters: fresh, without MyST, with the book's numbers and working links and buttons."""

import importlib.util
import json
import re
import sys
from urllib.parse import unquote, urldefrag

import nbformat
import pytest
from browsing import CHAPTERS, ROOT

sys.path.insert(0, str(ROOT / "scripts"))
import plain  # noqa: E402

MYST = re.compile(
    r":::|[`~]{3}\{|\{[A-Za-z][\w:.+-]*\}`|^\s*:[a-z-]+:( |$)|^\([\w-]+\)=|\$\$[ \t]*\([\w-]+\)[ \t]*$|^\+\+\+|^% |%s",
    re.M,
)


def markdown(notebook):
    return "\n\n".join(c["source"] for c in notebook["cells"] if c["cell_type"] == "markdown")


def without_code(text):
    text = re.sub(r"^( *)(`{3,}).*?^\1\2 *$", "", text, flags=re.M | re.S)
    return re.sub(r"(`+)[^`]+\1", "`code`", text)


@pytest.fixture(scope="module")
def made():
    return plain.editions()


@pytest.fixture(params=CHAPTERS, ids=lambda c: c.removeprefix("chapters/"))
def name(request):
    return request.param.removeprefix("chapters/") + ".ipynb"


@pytest.fixture
def edition(name):
    return nbformat.read(ROOT / "plain" / name, as_version=4)


def test_nothing_is_stale(made):
    files, lost = made
    committed = {p.name: p.read_text("utf8") for p in (ROOT / "plain").glob("*.ipynb")}
    stale = sorted(k for k in files.keys() | committed.keys() if files.get(k) != committed.get(k))
    assert not stale, f"plain/ does not follow chapters/: run `make plain` and commit. Stale: {', '.join(stale)}"
    assert not lost, "unknown to scripts/plain.py: " + "; ".join(lost)


def test_no_myst_is_left(edition):
    found = MYST.search(without_code(markdown(edition)))
    assert not found, found


def test_folds_and_boxes_are_whole(edition):
    """Folds open and close in one cell, with the empty lines that Markdown inside of them needs."""
    for cell in edition.cells:
        if cell.cell_type == "markdown":
            text = cell.source
            assert text.count("<details") == text.count("</details>") == text.count("</summary>")
            assert not re.search(r"</summary>\n[> ]*[^\s>]|[^\s>]\n[> ]*</details>", text), cell.id
            quoted = [line for line in text.split("\n") if line.startswith(">") and line.count("$$") % 2]
            assert not quoted, f"a formula over several lines of a quote: {quoted[0]}"


def test_code_is_the_chapter_s_and_valid(edition, name):
    nbformat.validate(edition)
    chapter = nbformat.read(ROOT / "chapters" / name, as_version=4)
    code = [c for c in edition.cells if c.cell_type == "code"]
    own = [c for c in chapter.cells if c.cell_type == "code"]
    assert code[0].source == plain.INSTALL
    assert [(c.id, c.source) for c in code[1:]] == [(c.id, c.source) for c in own]
    assert not any(c.outputs or c.execution_count for c in code)
    ids = [c.id for c in edition.cells]
    assert len(ids) == len(set(ids))


def test_numbers_are_the_book_s(book, pages):
    """What is counted here from the sources stands at the same place of the built page with the same number."""
    wrong = []
    for doc, page in plain.index().items():
        built = pages.get(f"{doc}.html")
        numbered = {k: v for k, v in page.targets.items() if v["number"]}
        for label, target in numbered.items():
            element = None if label.startswith("_") else built.find(id=target["anchor"])
            if not label.startswith("_") and element is None:
                wrong.append(f"{doc}: no {target['anchor']}")
            elif element and not re.search(rf"(?<![\w.]){re.escape(target['name'])}(?!\d)", element.get_text()):
                wrong.append(f"{doc}: {label} is not {target['name']}: {' '.join(element.get_text().split())[:60]}")
        if doc in CHAPTERS:
            boxes = re.findall(r"Fig\. \d+\.\d+", " ".join(e.get_text() for e in built.select("figcaption")))
            figures = [t["name"] for t in numbered.values() if t["name"].startswith("Fig.")]
            assert [b for b in dict.fromkeys(boxes) if b in figures] == figures
            assert len(numbered) > 5
    assert not wrong, "\n".join(wrong)


def test_links_lead_into_the_book(edition, book, pages):
    broken = []
    for url in set(re.findall(r"\]\((" + re.escape(plain.BOOK) + r"[^)]+)\)", markdown(edition))):
        path, anchor = urldefrag(url.removeprefix(plain.BOOK))
        page = pages.get(path)
        if page is None or (anchor and page.find(id=unquote(anchor)) is None):
            broken.append(url)
    assert not broken, "\n".join(sorted(broken))


@pytest.mark.parametrize("present", [True, False])
def test_install_cell(monkeypatch, present):
    """It does nothing where the package is present, and fetches the course where it is not."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    cell = nbformat.read(ROOT / "plain" / f"{CHAPTERS[0].removeprefix('chapters/')}.ipynb", as_version=4).cells[1]
    shell = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))
    asked = []
    monkeypatch.setattr(shell, "system", asked.append)
    for name in ("pip", "cd"):
        shell.register_magic_function(lambda line, name=name: asked.append(f"{name} {line}"), magic_name=name)
    if not present:
        find = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == "nfcourse" else find(n, *a))
    shell.run_cell(cell.source).raise_error()
    assert max(map(len, cell.source.splitlines())) <= 76 and f'url = "{plain.REPOSITORY}"' in cell.source
    clone = "git clone -q --depth 1 $url"
    assert asked == ([] if present else [clone, f"pip install -q ./{plain.NAME}", f"cd {plain.NAME}/plain"])


def test_buttons_give_the_plain_edition(book, pages, name):
    """Colab opens the committed plain edition, the download works from disk, and Binder opens the chapter."""
    doc = f"chapters/{name.removesuffix('.ipynb')}"
    links = [a["href"] for a in pages[f"{doc}.html"].select(".article-header-buttons a[href]")]
    repository = plain.REPOSITORY.removeprefix("https://github.com/")
    colab = f"https://colab.research.google.com/github/{repository}/blob/{plain.BRANCH}/plain/{name}"
    assert [u for u in links if "colab" in u] == [colab]
    assert [u for u in links if "mybinder.org" in u and f"{doc}.ipynb" in unquote(u) and repository in u]
    downloads = [u for u in links if u.endswith(".ipynb") and not u.startswith("http")]
    assert downloads == [f"../plain/{name}"]
    assert (book / "plain" / name).read_bytes() == (ROOT / "plain" / name).read_bytes()


SAMPLE = r"""
(sec-x)=
### A heading

Text with {term}`measure`, `{code}` and a set $\{x\}$, see {eq}`eq-9-x`.

:::::{prf:theorem} A *title*
:label: thm-9-x

First $a$:

$$
b &= c \\
d &= e
$$ (eq-9-x)

::::{admonition} Note well
:class: tip dropdown
Inside {prf:ref}`thm-9-x`.
::::
:::::

1. In a list:

   ```{math}
   :label: eq-9-y
   x \\ y
   ```

````{solution} ex-9
```python
print(":::")
```
````
"""


def test_conversion_of_a_sample(monkeypatch):
    page = plain.Page("chapters/09_sample")
    page.scan(SAMPLE.split("\n"))
    assert {k: v["name"] for k, v in page.targets.items()} == {
        "sec-x": "A heading", "thm-9-x": "Theorem 9.1", "eq-9-x": "(9.1)", "eq-9-y": "(9.2)"}  # fmt: skip
    known = {"chapters/09_sample": page}
    monkeypatch.setattr(plain, "index", lambda: known)
    monkeypatch.setattr(plain, "targets", lambda: page.targets)
    converter = plain.Plain("chapters/09_sample")
    lines = converter.lines(SAMPLE.split("\n"))
    url = plain.BOOK + "chapters/09_sample.html"
    assert f"Text with measure, `{{code}}` and a set $\\{{x\\}}$, see [(9.1)]({url}#equation-eq-9-x)." in lines
    assert "> **Theorem 9.1 (A *title*).**" in lines
    assert r"> $$b &= c \\ d &= e \tag{9.1}$$" in lines
    assert "> <details><summary>Note well</summary>" in lines and f"> Inside [Theorem 9.1]({url}#thm-9-x)." in lines
    assert "   $$" in lines and r"   x \\ y" in lines and r"   \end{aligned} \tag{9.2}" in lines
    assert "<details><summary>Solution</summary>" in lines and 'print(":::")' in lines
    assert converter.lost == ["label term measure"]


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("> :::{note}\n> Inside.\n> :::", "as written: :::{note}"),
        ("- ```{note}\n  Inside.\n  ```", "as written: ```{note}"),
        ("By {{ nobody }}.", "substitution nobody"),
        ("By {{ no body }}.", "as written: {{ no body }}"),
        ("Rows:\n\n\\begin{align}\na &= b\n\\end{align}", "formula \\begin{align} outside of dollar signs"),
        ("{doc}`nowhere`", "page chapters/nowhere"),
        ("[words](nowhere.md)", "page chapters/nowhere"),
        ("[words](../nothing.py)", "file nothing.py"),
        ("![words](../../x.png)", "file ../x.png"),
        ("$x${.wide}", "as written: {.wide}"),
        ("> (label)=\n> Text.", "as written: > (label)="),
        ("{odd}`x`", "role odd"),
        ("{py:class}`nfcourse.nothing.Flow`", "name nfcourse.nothing.Flow"),
    ],
)
def test_what_is_not_known_is_told(text, lost):
    """Nothing leaves as it was written without a word: `make plain` fails and names it."""
    converter = plain.Plain("chapters/01_measures")
    converter.leftovers("\n".join(converter.lines(text.split("\n"))))
    assert lost in converter.lost


def test_attributes_go_and_what_only_looks_like_myst_stays():
    converter = plain.Plain("chapters/01_measures")
    text = """A [word *here*]{.cls #id key="a b"}, `code`{.python} and [link](https://x.org){target=_blank}.

Literal: `{code}`, ``{role}`x` ``, $\\{x\\}$, $x_{{a}}$, [0, 1]{...}, $\\begin{pmatrix}a\\end{pmatrix}$.

```python
x = "{{a}}"  # :::{note}
```"""
    made = converter.lines(text.split("\n"))
    converter.leftovers("\n".join(made))
    assert not converter.lost
    assert made[0] == "A word *here*, `code` and [link](https://x.org)." and made[1:] == text.split("\n")[1:]


GOOD = {"cell_type": "markdown", "id": "good", "metadata": {}, "source": ["# Title"]}
OPTIONS = [":::{note}\n", "---\n", "{}\n", "---\n", "Text\n", ":::"]


@pytest.mark.parametrize(
    ("cell", "error"),
    [
        ({**GOOD, "id": "odd", "source": OPTIONS[:2] + ["a: [\n"] + OPTIONS[3:]}, r"cell 2 \(odd\): .* no YAML"),
        ({**GOOD, "id": "odd", "source": OPTIONS[:2] + ["- a\n"] + OPTIONS[3:]}, r"cell 2 \(odd\): .* no names"),
        ({k: v for k, v in GOOD.items() if k != "id"}, r"cell 2: it has no 'id'"),
        ({k: v for k, v in GOOD.items() if k != "source"}, r"cell 2 \(good\): it has no 'source'"),
        (None, "Expecting value"),
    ],
    ids=["broken", "list", "no id", "no source", "no JSON"],
)
def test_a_fault_is_told_with_file_and_cell(monkeypatch, tmp_path, cell, error):
    path = tmp_path / "09_odd.ipynb"
    path.write_text(json.dumps({"cells": [GOOD, cell]}) if cell else "no JSON")
    kept = tmp_path / "plain"
    kept.mkdir()
    (kept / "01_x.ipynb").write_text("kept")
    monkeypatch.setattr(plain, "chapters", lambda: [path])
    monkeypatch.setattr(plain, "PLAIN", kept)
    plain.index.cache_clear()
    plain.targets.cache_clear()
    try:
        with pytest.raises(SystemExit, match=rf"09_odd\.ipynb.*{error}"):
            plain.main()
    finally:
        plain.index.cache_clear()
        plain.targets.cache_clear()
    assert [p.name for p in kept.iterdir()] == ["01_x.ipynb"]


def test_files_are_written_whole_or_not_at_all(monkeypatch, tmp_path):
    """A run that stops on the way leaves the old file as it was."""
    (tmp_path / "a.ipynb").write_text("old")
    monkeypatch.setattr(plain, "PLAIN", tmp_path)
    monkeypatch.setattr(plain, "editions", lambda: ({"a.ipynb": "new"}, []))
    write = plain.Path.write_text

    def half(self, content, *args):
        write(self, content[:1], *args)
        raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr(plain.Path, "write_text", half)
        with pytest.raises(KeyboardInterrupt):
            plain.main()
    assert (tmp_path / "a.ipynb").read_text() == "old"
    plain.main()
    assert (tmp_path / "a.ipynb").read_text() == "new" and len(list(tmp_path.iterdir())) <= 2


def test_editions_hold_no_outputs():
    """Small files: pictures would outweigh the text a hundredfold."""
    for path in (ROOT / "plain").glob("*.ipynb"):
        assert path.stat().st_size < 300_000, path
        assert json.loads(path.read_text("utf8"))["metadata"]["kernelspec"]["name"] == "python3"
