"""The built book, page by page: valid HTML, and a real browser that is cut off from every network."""

import json
import os
import re
import subprocess
import sys
import time
from urllib.parse import unquote, urldefrag, urlparse

import pytest
import yaml
from browsing import CHAPTERS, EXTRA, HTML, PAGES, ROOT, complaints, keys, typeset, view, visit, visit_once, wait
from bs4 import BeautifulSoup


def test_nothing_changed_nothing_built(book):
    before, start = (book / "book" / "start.html").stat().st_mtime_ns, time.perf_counter()
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "build_book.py")], cwd=ROOT, capture_output=True, text=True
    )
    assert time.perf_counter() - start < 10 and done.returncode == 0
    assert f"Open {(book / 'index.html').as_uri()}" in done.stdout
    assert (book / "book" / "start.html").stat().st_mtime_ns == before


def test_every_page_is_there(pages):
    missing = {f"{page}.html" for page in PAGES + EXTRA} - set(pages)
    assert not missing


def test_links_and_anchors(book, pages):
    """Every link inside the book leads to a file, and to an id in it."""
    ids = {name: {e["id"] for e in page.find_all(id=True)} for name, page in pages.items()}
    broken = []
    for name, page in pages.items():
        for element in page.select("a[href], link[href], script[src], img[src], source[src], iframe[src]"):
            url = element.get("href") or element.get("src")
            if urlparse(url).scheme or url.startswith("//") or url == "#":
                continue
            target, fragment = urldefrag(url)
            path = ((book / name).parent / unquote(target.split("?")[0])).resolve() if target else book / name
            known = ids.get(path.relative_to(book).as_posix() if path.is_relative_to(book) else "")
            if not path.exists() or (fragment and known is not None and unquote(fragment) not in known):
                broken.append(f"{name}: {url}")
    assert not broken, "\n".join(broken)


def test_pages_load_nothing_from_outside(book, pages):
    loads = []
    for name, page in pages.items():
        for element in page.select("link[href], script[src], img[src], source[src], iframe[src], object[data]"):
            url = element.get("href") or element.get("src") or element.get("data")
            if re.match(r"(https?:)?//", url) and "canonical" not in (element.get("rel") or []):
                loads.append(f"{name}: {url}")
        for style in page.find_all("style"):
            loads += [f"{name}: {u}" for u in re.findall(r"url\(['\"]?(?:https?:)?//[^)]+", style.string or "")]
    for sheet in (book / "_static").rglob("*.css"):
        text = sheet.read_text("utf8")
        loads += [f"{sheet.name}: {u}" for u in re.findall(r"(?:url\(|@import )['\"]?(?:https?:)?//[^)\"';]+", text)]
    assert not loads, "\n".join(loads)


def test_ids_are_unique(pages):
    twice = []
    for name, page in pages.items():
        seen = [e["id"] for e in page.find_all(id=True)]
        twice += [f"{name}: {i}" for i in sorted(set(seen)) if seen.count(i) > 1]
    assert not twice, "\n".join(twice)


def test_headings_step_down_one_by_one(pages):
    wrong = []
    for name in (f"{page}.html" for page in PAGES):
        main = pages[name].find("article") or pages[name]
        levels = [int(h.name[1]) for h in main.find_all(re.compile(r"^h[1-6]$"))]
        if levels.count(1) != 1 or levels[0] != 1:
            wrong.append(f"{name}: {levels.count(1)} first-level headings")
        wrong += [f"{name}: h{a} before h{b}" for a, b in zip(levels, levels[1:], strict=False) if b > a + 1]
    assert not wrong, "\n".join(wrong)


def test_every_picture_has_alt_text(pages):
    bare = []
    for name in (f"{page}.html" for page in PAGES):
        for image in pages[name].find("article").find_all("img"):
            alt = (image.get("alt") or "").strip()
            if len(alt) < 10 or re.search(r"\.(png|svg|webp|jpe?g)$|_images/", alt):
                bare.append(f"{name}: {image.get('src', '')[:60]} alt={alt!r}")
    assert not bare, "\n".join(bare)


def test_punctuation_stays_behind_its_formula(pages):
    """A full stop that was moved from another formula would stand twice, or after a bracket that opens."""
    for name, page in pages.items():
        for keep in page.select(".nf-keep"):
            after = keep.next_sibling
            doubled = isinstance(after, str) and re.match(r"[.,;:!?)\]]", after)
            assert not doubled, f"{name}: {keep.get_text()}{after[:40]}"


def test_theorems_count_by_chapter(pages):
    """Theorem 8.3 stands in chapter 8, although its file is not the eighth."""
    for chapter in CHAPTERS:
        number = int(re.match(r"chapters/(\d+)_", chapter)[1])
        main = pages[f"{chapter}.html"].find("article")
        captions = [e.get_text() for e in main.select("div.proof .caption-number, figcaption .caption-number")]
        counted = [re.search(r"(\d+)\.\d+", c) for c in captions if re.search(r"\d", c)]
        assert counted and all(m and int(m[1]) == number for m in counted), captions


def test_no_reference_stays_unresolved(pages):
    """What Sphinx leaves in the text when it does not know a directive, a role or a target."""
    odd = re.compile(r"\{(?:prf:)?(?:ref|cite|doc|term|eq|py:\w+|numref)\}|:label:|\[\?\]|<no title>|Unknown directive")
    for name in (f"{page}.html" for page in PAGES):
        main = pages[name].find("article")
        found = odd.search("".join(t for t in main.strings if not t.find_parent(["pre", "code"])))
        assert not found, f"{name}: {found[0]}"


def test_launch_buttons_lead_to_the_configured_repository(pages):
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf8"))
    repository = config["repository"]["url"].removeprefix("https://github.com/")
    for chapter in CHAPTERS:
        links = [a["href"] for a in pages[f"{chapter}.html"].select("a[href^=https]")]
        plain = chapter.replace("chapters/", "plain/")  # Colab knows no MyST
        for host, opened in (("mybinder.org", chapter), ("colab.research.google.com", plain)):
            target = [u for u in links if host in u and repository in u and f"{opened}.ipynb" in unquote(u)]
            assert target, f"{chapter} has no button for {host}"


def test_api_pages_name_what_the_package_exports(pages):
    """Each public class and function has an entry, under the module where its source stands."""
    import nfcourse

    documented = {e["id"] for page in pages.values() for e in page.select("dt.sig[id]")}
    for name in nfcourse.__all__:
        item = getattr(nfcourse, name)
        if not hasattr(item, "__path__") and hasattr(item, "__module__"):
            assert f"{item.__module__}.{name}" in documented, f"{item.__module__}.{name} has no entry"


# ---------------------------------------------------------------- in the browser


@pytest.fixture(params=PAGES + EXTRA)
def opened(request, browser):
    """A page, opened once for the tests that follow."""
    return visit_once(browser, request.param)


SECONDS = 3.0  # from opening a chapter to its first screen, formulas set


@pytest.mark.parametrize("page", CHAPTERS)
def test_the_first_screen_waits_for_no_other(browser, page):
    """Formulas are set as they come near; the rest follows by scrolling, opening a fold, printing."""
    visit(browser, page, everything=False)
    pending = """const near = e => { const r = e.getBoundingClientRect(); return r.bottom > 0 && r.top < innerHeight; };
      return [...document.querySelectorAll("article .math")].filter(e => e.checkVisibility() && near(e))
        .filter(e => e.querySelector("mjx-lazy") || !e.querySelector("mjx-container")).length"""
    wait(lambda: browser.execute_script(pending) == 0)
    seconds = browser.execute_script("return performance.now()") / 1000
    waiting = browser.execute_script("return document.querySelectorAll('mjx-lazy').length")
    print(f"{page}: the first screen is set after {seconds:.1f} s")
    assert waiting > 20, "all is set at once"
    assert seconds < SECONDS * (4 if os.getloadavg()[0] > 1.5 else 1), f"{seconds:.1f} s"
    fold = "[...document.querySelectorAll('article .nf-fold')].filter(d => d.querySelector('mjx-lazy')).at(-1)"
    browser.execute_script(f"window.nfFold = {fold}; nfFold.open = true; nfFold.scrollIntoView()")
    wait(lambda: browser.execute_script(pending) == 0)
    typeset(browser)
    assert browser.execute_script("return document.querySelectorAll('mjx-lazy').length") == 0
    browser.execute_script("window.nfOpened = arguments[0]", page)  # the tests that follow need not open it again


def test_page_works_offline(browser, opened):
    """No request to another host, no error, every formula set."""
    assert not complaints(browser)
    formulas, drawn, errors = browser.execute_script(
        """const n = s => document.querySelectorAll(s).length;
           return [n("article .math"), n("article mjx-container"), n("mjx-merror, [data-mjx-error]")];"""
    )
    assert drawn >= formulas and not errors, f"{formulas} formulas, {drawn} drawn, {errors} with errors"
    assert formulas > 20 or opened not in CHAPTERS


def test_source_pages_work(browser, book):
    for path in sorted((book / "_modules").rglob("*.html")):
        visit(browser, path.relative_to(book).as_posix().removesuffix(".html"), everything=False, width=390)
        assert not complaints(browser), path
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 390, path


@pytest.fixture(params=CHAPTERS)
def chapter(request, browser):
    """A chapter, opened once, on a machine that prefers light pages."""
    visit_once(browser, request.param)
    view(browser)
    return request.param


def test_pictures_stand_on_a_light_plate_in_the_dark(browser, chapter):
    view(browser, scheme="dark")
    wait(lambda: browser.execute_script("return document.documentElement.dataset.theme") == "dark")
    grounds = browser.execute_script(
        """return [...document.querySelectorAll("article .cell_output img, article figure img")].map(e => {
             for (let p = e; p; p = p.parentElement) { const c = getComputedStyle(p).backgroundColor;
               if (c !== "rgba(0, 0, 0, 0)") return c; } });"""
    )
    assert grounds and all(min(map(int, re.findall(r"\d+", g)[:3])) > 230 for g in grounds), set(grounds)


def test_players_move(browser, chapter):
    """By the arrow keys and by the play button, from the keyboard, without a kernel."""
    players = browser.find_elements("css selector", ".nf-player")
    assert len(players) >= (1 if "/00_" in chapter else 2)
    for number, player in enumerate(players):
        slider, button = (player.find_element("css selector", s) for s in ("input[type=range]", "button"))

        def shown(player=player):
            return browser.execute_script(
                """const all = [...arguments[0].querySelectorAll(".nf-player-frames img")];
                   return all.flatMap((e, k) => e.offsetHeight > 20 && e.naturalWidth > 20 ? [k] : []);""",
                player,
            )

        def becomes(frames, shown=shown):
            wait(lambda: shown() == frames)

        last = len(player.find_elements("css selector", ".nf-player-frames img")) - 1
        browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", player)
        becomes([0])
        assert slider.accessible_name and button.accessible_name
        keys(slider, "ARROW_RIGHT", "ARROW_RIGHT")
        becomes([2])
        assert slider.get_attribute("aria-valuetext")
        keys(slider, "END")
        becomes([last])
        keys(slider, "HOME")
        becomes([0])
        if number:
            continue  # one script moves them all, and playing takes its time
        keys(button, "ENTER")
        wait(lambda: shown() >= [2])
        keys(button, "SPACE")
        where = shown()
        time.sleep(1)
        assert shown() == where, "the second press does not stop it"
    assert not complaints(browser)


def test_folds_are_of_one_kind(pages):
    """No other fold is left, each says what it hides, and none needs the script that the theme brought for it."""
    for name, page in pages.items():
        article = page.find("article")
        if not article:
            continue
        # the badge under a theorem is no fold of text but a control with a look of its own
        others = "details:not(.nf-fold, .nf-check > details)"
        odd = article.select(f"{others}, .toggle, .dropdown, .admonition.hide, details summary a")
        assert not odd, f"{name}: {str(odd[0])[:200]}"
        for fold in article.select("details"):
            summary = fold.find("summary", recursive=False)
            assert summary is not None and summary.get_text(strip=True), f"{name}: {str(fold)[:200]}"
            assert fold.get_text(strip=True) != summary.get_text(strip=True) or fold.find("img"), f"{name}: empty"
            assert not fold.has_attr("open")
        assert not page.select("script[src*=togglebutton], link[href*=togglebutton]"), name


def test_every_proof_and_solution_of_the_sources_is_a_fold(pages):
    kinds = {"proof": r"`{3,}\{prf:proof\}\n:class: dropdown|:{3,}\{prf:proof\}\n:class: dropdown",
             "solution": r"[:`]{3,}\{solution\} .*\n(?::.*\n)*?:class: dropdown",
             "hint": r":{3,}\{dropdown\} Hint"}  # fmt: skip
    for chapter in CHAPTERS:
        cells = json.loads((ROOT / f"{chapter}.ipynb").read_text("utf8"))["cells"]
        text = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
        article = pages[f"{chapter}.html"].find("article")
        for kind, pattern in kinds.items():
            folds = article.select(f"details.nf-{kind}")
            assert len(folds) == len(re.findall(pattern, text)), f"{chapter}: {kind}"
            assert all(f.get_text(strip=True).lower().startswith(kind) for f in folds)
        for kind, tag in (("code", {"hide-input", "hide-cell"}), ("output", {"hide-output"})):
            hidden = [c for c in cells if tag & set(c["metadata"].get("tags", []))
                      and (kind == "code" or c.get("outputs"))]  # fmt: skip
            assert len(article.select(f"div.cell > details.nf-{kind}")) == len(hidden), f"{chapter}: {kind}"
        proofs = [f["id"] for f in article.select("details.nf-proof")]
        assert all(i.startswith("proof-") for i in proofs)


PAGE = """# Folds

:::{prf:theorem} One
:label: thm-one
A statement.
:::

:::{prf:proof}
:class: dropdown
It holds, $x$.
:::

:::{prf:proof}
Seen at once.
:::

:::{exercise} Name
:label: ex-one
A task.
:::

:::{solution} ex-one
:label: sol-one
:class: dropdown
The way.
:::

:::{dropdown} Hint for $n = 2$
Look.
:::

:::{dropdown} Answers
:open:
Seven.
:::

:::{admonition} Source
:class: dropdown
Text.
:::

See {ref}`sol-one`.
"""


def test_every_source_of_a_fold_becomes_one(tmp_path):
    """Also those that no chapter has today: outputs after a prediction, whole cells, admonitions."""
    extensions = ["myst_nb", "sphinx_design", "sphinx_togglebutton", "sphinx_proof", "sphinx_exercise", "nf_layout"]
    (tmp_path / "conf.py").write_text(
        f"import sys; sys.path.insert(0, {str(ROOT / 'book' / 'ext')!r})\nextensions = {extensions}\n"
        "nb_execution_mode = 'off'\nhtml_theme = 'sphinx_book_theme'\n"
        "myst_enable_extensions = ['dollarmath', 'colon_fence']\n"
    )
    output = [{"output_type": "stream", "name": "stdout", "text": "42"}]
    cells = [{"cell_type": "markdown", "metadata": {}, "source": PAGE}] + [
        {
            "cell_type": "code",
            "execution_count": 1,
            "metadata": {"tags": tags},
            "outputs": output,
            "source": "print(42)",
        }
        for tags in (["hide-input"], ["hide-output"], ["hide-cell"], ["hide-input", "hide-output"])
    ]
    book = {"cells": cells, "metadata": {"language_info": {"name": "python"}}, "nbformat": 4, "nbformat_minor": 4}
    (tmp_path / "index.ipynb").write_text(json.dumps(book))
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "-q", str(tmp_path), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = BeautifulSoup((tmp_path / "out" / "index.html").read_text("utf8"), "html.parser")
    folds = [
        (f["class"], f.summary.get_text(strip=True), f.get("id"), f.has_attr("open")) for f in page.select("details")
    ]
    assert folds == [
        (["nf-fold", "nf-proof"], "Proof", "proof-thm-one", False),
        (["nf-fold", "nf-solution"], "Solution", "sol-one", False),
        (["nf-fold", "nf-hint"], r"Hint for\(n = 2\)", None, False),
        (["nf-fold", "nf-answer"], "Answers", None, True),
        (["nf-fold", "nf-source"], "Source", None, False),
        (["nf-fold", "nf-code"], "Code", None, False),
        (["nf-fold", "nf-output"], "Output", None, False),
        (["nf-fold", "nf-code"], "Code", None, False),
        (["nf-fold", "nf-code"], "Code", None, False),
        (["nf-fold", "nf-output"], "Output", None, False),
    ]
    assert page.select_one(".nf-proof").p.get_text(strip=True).startswith("It holds")
    assert page.select_one("div.proof#proof-thm-one--2") and not page.article.select(".toggle, .dropdown, .hide")
    assert page.select_one('a[href="#sol-one"]')


def test_folds_open_by_the_keyboard(browser, chapter):
    browser.execute_script("document.querySelectorAll('details').forEach(d => { d.open = false; });")
    kinds = [browser.find_elements("css selector", f"article .nf-{kind}") for kind in ("proof", "solution", "code")]
    assert any(kinds)
    for folds in kinds:
        for box in folds[:2]:
            folded = box.size["height"]
            keys(box.find_element("css selector", "summary"), "ENTER")
            wait(lambda box=box, folded=folded: box.size["height"] > folded + 15)


def test_a_link_into_a_fold_opens_it(browser, chapter):
    """So does the same link a second time."""
    goal = "(document.querySelector('article .nf-proof') ?? document.querySelector('article .nf-fold'))"
    for _ in range(2):
        browser.execute_script(
            f"""const fold = {goal}, link = document.createElement("a"); fold.open = false;
               fold.firstElementChild.id ||= "x-in"; link.href = "#" + fold.firstElementChild.id;
               document.querySelector("article").append(link); link.click(); link.remove();"""
        )
        wait(lambda: browser.execute_script(f"return {goal}.open"))
    wait(lambda: 0 <= browser.execute_script(f"return {goal}.getBoundingClientRect().top") < 300)


def test_folds_are_printed(browser, chapter):
    """Nothing stays hidden on paper, whatever was folded; afterwards the page is as it was."""
    count = "return document.querySelectorAll('article details:not([open])').length"
    browser.execute_script("document.querySelectorAll('details').forEach((d, k) => { d.open = k === 0; });")
    closed = browser.execute_script(count)
    browser.execute_script("window.dispatchEvent(new Event('beforeprint'));")
    assert closed > 5 and browser.execute_script(count) == 0
    browser.execute_script("window.dispatchEvent(new Event('afterprint'));")
    assert browser.execute_script(count) == closed
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})  # a browser that fires no such event
    heights = browser.execute_script(
        """return [...document.querySelectorAll("article details:not([open]) > :last-child")]
             .map(e => e.getBoundingClientRect().height);"""
    )
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert min(heights) > 5


def test_folds_need_no_script(browser):
    chapter = next(c for c in CHAPTERS if "/01_" in c)
    visit(browser, chapter, everything=False)
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get((HTML / chapter).as_uri() + ".html")
        for kind in ("proof", "hint", "code"):
            box = browser.find_element("css selector", f"article .nf-{kind}")
            folded = box.size["height"]
            keys(box.find_element("css selector", "summary"), "ENTER")
            wait(lambda box=box, folded=folded: box.size["height"] > folded + 15)
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_every_page_describes_itself(pages):
    """For search engines and for cards of links; licence and version stand under each."""
    from nfcourse import __version__

    described = {}
    for name in (f"{page}.html" for page in PAGES):
        head = pages[name].head
        said = {m.get("name") or m.get("property"): m.get("content") for m in head.find_all("meta")}
        assert 40 <= len(said["description"]) <= 180, f"{name}: {said['description']!r}"
        described.setdefault(said["description"], []).append(name)
        assert said["og:title"] and said["og:description"] == said["description"]
        picture = (HTML / name).parent / said["og:image"]
        assert picture.is_file(), picture
        assert any("icon" in (link.get("rel") or []) for link in head.find_all("link"))
        footer = pages[name].select_one("footer.bd-footer-content").get_text()
        assert __version__ in footer and "CC BY 4.0" in footer and "MIT" in footer
    assert all(len(v) == 1 for v in described.values()), described


def test_search_works_from_disk(browser):
    visit(browser, "search", "?q=determinant")
    links = wait(lambda: browser.find_elements("css selector", "#search-results ul.search li a"))
    assert any("chapters/" in a.get_attribute("href") for a in links)
    visit(browser, "book/start")
    browser.find_element("css selector", "button.search-button, .search-button__button").click()
    field = wait(lambda: [f for f in browser.find_elements("css selector", "input[name=q]") if f.is_displayed()])[0]
    field.send_keys("push-forward")
    keys(field, "ENTER")
    wait(lambda: "search.html" in browser.current_url)
    assert wait(lambda: browser.find_elements("css selector", "#search-results ul.search li a"))
    assert not complaints(browser)


def test_colour_theme_can_be_chosen(browser):
    visit(browser, CHAPTERS[0])
    button = wait(
        lambda: [b for b in browser.find_elements("css selector", ".theme-switch-button") if b.is_displayed()]
    )[0]
    seen = set()
    for _ in range(3):
        keys(button, "ENTER")
        theme, ground = browser.execute_script(
            "return [document.documentElement.dataset.theme, getComputedStyle(document.body).backgroundColor];"
        )
        seen.add((theme, ground))
    assert {theme for theme, _ in seen} == {"light", "dark"} and len({ground for _, ground in seen}) == 2
    browser.execute_script("localStorage.clear()")
