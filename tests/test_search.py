"""What is looked for is found, from disk; answers are not; links show where they lead, terms lead to the glossary."""

import json
import re
import sys

import pytest
from browsing import CHAPTERS, HTML, PAGES, ROOT, complaints, keys, view, visit, wait

sys.path.insert(0, str(ROOT / "book" / "ext"))
import nf_search  # noqa: E402

PAGE, ANCHOR, KIND, TITLE, TEXT, CODE, SECTION = range(7)


def notebook(page):
    cells = json.loads((ROOT / f"{page}.ipynb").read_text("utf8"))["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


@pytest.fixture(scope="module")
def index(book):
    pages, rows = (book / "_static" / "nf_search_index.js").read_text("utf8").split("window.nfSearchIndex = ")
    titles = json.loads(pages.removeprefix("window.nfSearchPages = ").strip().removesuffix(";"))
    return titles, json.loads(rows.strip().removesuffix(";"))


@pytest.fixture(scope="module")
def cards(book):
    texts = {page: (book / "_static" / "tips" / f"{page}.js").read_text("utf8") for page in PAGES}
    return {page: json.loads(text.partition("] = ")[2].strip().removesuffix(";")) for page, text in texts.items()}


def words(html):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", html))


# ---------------------------------------------------------------- the index


def test_every_section_theorem_and_term_is_in_the_index(pages, index):
    titles, rows = index
    known = {(titles[row[PAGE]][0], row[ANCHOR]) for row in rows}
    targets = "section[id], div.proof[id], div.exercise[id], dl.glossary > dt[id], dl.py > dt[id]"
    for page in PAGES:
        article = pages[f"{page}.html"].find("article")
        for node in article.select(targets):
            first = node.find_previous_sibling("dt") if node.find_parent("dl", class_="glossary") else None
            alias = first is not None and first.find_next_sibling() is node  # two terms, one meaning
            empty = node.name == "section" and node.find("p") is None
            assert alias or empty or (page, node["id"]) in known, f"{page}#{node['id']} cannot be found"


def test_every_entry_leads_to_a_place_that_exists(pages, index):
    titles, rows = index
    ids = {page: {e["id"] for e in pages[f"{page}.html"].find_all(id=True)} for page in PAGES}
    for row in rows:
        page = titles[row[PAGE]][0]
        assert row[ANCHOR] == "" or row[ANCHOR] in ids[page], f"{page}#{row[ANCHOR]}"
    anchors = [(row[PAGE], row[ANCHOR]) for row in rows if row[ANCHOR]]
    assert len(anchors) == len(set(anchors))


def sentences(block):
    """Return runs of plain words: they stand on the page as they stand in the source."""
    runs = re.split(r"[$`{}*\[\]()\\<>:;\"'’\n]|--", block)
    return [run.strip(" .,") for run in runs if len(run) > 45]


# folds that keep an answer; other folds are depths, and are found
SECRET = r"^(:{3,}|`{3,})\{(?:solution\}|dropdown\} *(?:Hint|Answer|What it shows))"


@pytest.mark.parametrize("page", CHAPTERS)
def test_hints_and_solutions_are_left_out(page, index):
    source = notebook(page)
    answers = re.findall(rf"{SECRET}[^\n]*\n(.*?)^\1\s*$", source, re.M | re.S)
    secret = {run for _, block in answers for run in sentences(block)}
    told = {run for run in secret if run in re.sub(rf"{SECRET}.*?^\1\s*$", "", source,
                                                   flags=re.M | re.S)}  # fmt: skip
    everything = " ".join(row[TITLE] + " " + row[TEXT] for row in index[1])
    assert not answers or secret, f"{page} has answers, and no sentence of them was found to look for"
    for run in secret - told:
        assert run not in everything, f"{page}: the index tells {run!r}"


def test_statements_and_proofs_are_in(index):
    titles, rows = index
    (row,) = [r for r in rows if r[ANCHOR] == "def-02-pushforward"]
    assert row[TITLE] == "Definition 2.1 (Push-forward)" and "The push-forward of μ by f" in row[TEXT]
    assert titles[row[PAGE]][0].startswith("chapters/02") and row[SECTION]


TEX = re.compile(r"\\[a-zA-Z]{2,}|\\\(|\$\$")


def test_the_index_is_small_and_holds_no_tex(book, index, pages):
    assert (book / "_static" / "nf_search_index.js").stat().st_size < 1.5e6
    assert not (book / "searchindex.js").exists()
    written = {  # code may hold what looks like a formula: a new line, a path, the text of a label
        match for page in pages.values() for code in page.select("article :is(code, pre, .sig)")
        for match in TEX.findall(code.get_text())
    }  # fmt: skip
    bad = [(m, row[TEXT]) for row in index[1] for m in TEX.findall(row[TITLE] + row[TEXT]) if m not in written]
    assert not bad, bad[:3]


def test_no_page_loads_another_search(pages):
    for name, page in pages.items():
        loaded = " ".join(s.get("src", "") for s in page.find_all("script"))
        assert "searchtools" not in loaded and "searchindex" not in loaded, name


def test_formulas_become_text():
    readable = nf_search.readable
    assert readable(r"\(f_\#\mu(B) = \mu(f^{-1}(B))\)") == "f#μ(B) = μ(f⁻¹(B))"
    assert readable(r"\(\mathbb R^n\)") == "ℝⁿ"
    assert readable(r"\(\frac{a}{b}\)") == "…"
    assert readable("x_") == "…"


@pytest.mark.parametrize(
    ("tex", "text"),
    [
        ("x_{12}", "x₁₂"), ("e^{-x}", "e⁻ˣ"), ("p_{x}", "p_x"), (r"p_\mathrm{data}", "p_data"), ("x_{i+1}", "x_(i+1)"),
        (r"A^{\top}", "Aᵀ"), ("e^{-x_{1}}", "e^(-x₁)"), (r"\{0,1\}^d", "{0,1}ᵈ"),
        ("x_i + x_j + x_k", "x_i + x_j + x_k"),
    ],
)  # fmt: skip
def test_indices_and_exponents_stay_readable(tex, text):
    assert nf_search.readable(tex) == text


def test_cards_hold_text_that_looks_like_html():
    """What is written < on the page is written so in the card, and no word of it becomes an element."""
    from bs4 import BeautifulSoup

    page = """<section id="s"><h2>If a &lt; b and c &gt; d <em>x &lt;i&gt;</em></h2><p>First &lt;b&gt;.</p></section>
      <dl class="glossary"><dt id="term-t">T &lt;q&gt;</dt>
      <dd>Is &lt;img src=x onerror=alert(1)&gt; &amp; more.</dd></dl>
      <figure id="f"><img alt='say "x" &lt; y' src="../i/a.png"/></figure>"""
    cards = nf_search.tips("chapters/p", BeautifulSoup(page, "html.parser"))
    for name, told in (("s", "If a < b and c > d x <i>First <b>."),
                       ("term-t", "T <q>Is <img src=x onerror=alert(1)> & more.")):  # fmt: skip
        card = BeautifulSoup(cards[name], "html.parser")
        assert card.get_text() == told and not card.find(["b", "i", "q", "img"])
    picture = BeautifulSoup(cards["f"], "html.parser").img
    assert picture["alt"] == 'say "x" < y' and picture["data-src"] == "i/a.png"


# ---------------------------------------------------------------- previews, without a browser


def test_each_theorem_equation_source_and_term_has_a_card(pages, cards):
    for page in PAGES:
        article = pages[f"{page}.html"].find("article")
        for node in article.select("div.proof[id], div.math[id], div.citation[id], dl.glossary > dt[id]"):
            assert words(cards[page].get(node["id"], "")).strip(), f"{page}#{node['id']} has no preview"


def test_cards_repeat_no_id_and_hold_no_answer(cards):
    for page, found in cards.items():
        for anchor, html in found.items():
            assert not re.search(r"<[^>]*\sid=[\"'](?!tip-)", html), f"{page}#{anchor}"
            assert "<script" not in html and "<a " not in html and "Solution to" not in html, f"{page}#{anchor}"


# ---------------------------------------------------------------- the glossary, both ways


def test_first_use_of_a_term_links_to_the_glossary(pages):
    terms = {e["id"] for e in pages["book/glossary.html"].select("dl.glossary > dt[id]")}
    for page in CHAPTERS:
        article = pages[f"{page}.html"].find("article")
        links = article.select("a.nf-term")
        targets = [a["href"] for a in links]
        assert len(links) >= 3 and len(targets) == len(set(targets)), page
        for a in links:
            file, _, anchor = a["href"].partition("#")
            assert file == "../book/glossary.html" and anchor in terms
            assert a["id"] == f"use-of-{anchor}"
            apart = a.find_parent(["h1", "h2", "h3", "h4", "pre", "code", "a", "details", "figure", "dt"])
            assert apart is None and a.find_parent(class_=["admonition", "proof", "math", "cell"]) is None, a
        by_hand = {a["href"] for a in article.select("a:has(> .std-term)")}
        assert not by_hand & set(targets), "a term is linked by hand and by machine"


def test_capitals_of_terms_are_kept(pages):
    acronyms = {e["id"]: e.get_text().strip("#") for e in pages["book/glossary.html"].select("dl.glossary > dt[id]")}
    seen = 0
    for page in CHAPTERS:
        for a in pages[f"{page}.html"].select("article a.nf-term"):
            term = acronyms[a["href"].partition("#")[2]]
            if re.search(r"[A-Z].*[A-Z]", term):
                seen += 1
                assert a.get_text().removesuffix("s") == term
    assert seen


def test_glossary_lists_the_chapters_that_use_a_term(pages):
    used = pages["book/glossary.html"].select("p.nf-used a")
    assert len(used) > 30
    for a in used:
        file, _, anchor = a["href"].partition("#")
        target = pages[file.removeprefix("../")]
        assert target.find(id=anchor), a
        assert re.match(rf"chapters/0*{a.get_text()}_", file.removeprefix("../"))
    entry = pages["book/glossary.html"].find(id="term-MADE").find_next_sibling("dd")
    assert "10" in [a.get_text() for a in entry.select("p.nf-used a")]


# ---------------------------------------------------------------- in the browser

HITS = "#search-results ul.search li.nf-hit"


def look_for(browser, query):
    """Ask by the address; on the search page itself, by its form."""
    if "/search.html" in browser.current_url:
        browser.execute_script(
            """const form = document.querySelector(".nf-search form");
               form.querySelector("input").value = arguments[0]; form.requestSubmit();""",
            query,
        )
    else:
        visit(browser, "search", "?q=" + query.replace(" ", "+"))
    wait(lambda: browser.find_element("id", "search-status").text)
    return browser.execute_script(
        """return [...document.querySelectorAll(arguments[0])].map(li => ({
             href: li.querySelector("a").href, title: li.querySelector("a").textContent,
             text: li.textContent, marks: [...li.querySelectorAll("mark")].map(m => m.textContent)}));""",
        HITS,
    )


def test_pushforward_is_found_and_the_link_lands_there(browser):
    browser.get("about:blank")
    found = look_for(browser, "pushforward")
    hit = next(h for h in found if "chapters/02" in h["href"])
    assert "#" in hit["href"] and found.index(hit) < 3
    assert any(m.lower() == "push-forward" for m in hit["marks"])
    assert not complaints(browser)
    link = next(a for a in browser.find_elements("css selector", f"{HITS} a") if a.get_attribute("href") == hit["href"])
    link.click()
    wait(lambda: "chapters/02" in browser.current_url)
    anchor = hit["href"].partition("#")[2]
    top = "return document.getElementById(arguments[0])?.getBoundingClientRect().top ?? 9999"
    wait(lambda: browser.execute_script("return document.readyState") == "complete")
    browser.execute_async_script("MathJax.startup.promise.then(() => setTimeout(arguments[0], 300))")
    assert -20 < browser.execute_script(top, anchor) < 300


@pytest.mark.parametrize("query", ["push-forward", "push forward", "Push-Forward", "pushforwards"])
def test_spellings_of_one_word_find_the_same(browser, query):
    assert any("#def-02-pushforward" in h["href"] for h in look_for(browser, query)[:4])


def test_capitals_are_kept(browser):
    loud, quiet = look_for(browser, "MADE"), look_for(browser, "made")
    assert any("chapters/10" in h["href"] for h in loud[:3])
    for hit in loud:
        assert "MADE" in hit["text"] or "masked autoencoder" in hit["text"].lower(), hit["text"]
        assert not {"made", "Made"} & set(hit["marks"])
    assert not any("chapters/01" in h["href"] for h in loud)
    assert {"made"} & {m for h in quiet for m in h["marks"]} and len(quiet) >= len(loud)
    assert any("MADE" in h["marks"] for h in quiet)


@pytest.mark.parametrize(
    ("query", "anchor"),
    [
        ("normalising flow", "normalizing"),
        ("Radon-Nikodym", "thm-02-radon-nikodym|term-density"),
        ("sigma algebra", "def-01-sigma-algebra"),
        ("CDF", "def-02-cdf"),
        ("jacobian determinant", "term-log-determinant|thm-"),
        ("log-det", "term-log-determinant"),
        ("masked autoregressive flow", "term-MAF"),
    ],
)
def test_other_words_for_it(browser, query, anchor):
    found = look_for(browser, query)
    wanted = re.compile(anchor, re.I)
    assert any(wanted.search(h["href"]) or wanted.search(" ".join(h["marks"])) for h in found[:4]), found[:4]


def test_excerpts_show_the_word_and_no_formula_in_tex(browser):
    for hit in look_for(browser, "triangular"):
        assert any("triangular" in m.lower() for m in hit["marks"]), hit
        assert not re.search(r"\\[a-z]{2,}|\\\(", hit["text"])
        assert len(hit["text"]) < 700


def test_search_is_fast_and_follows_what_is_typed(browser):
    visit(browser, "search", "?q=flow")
    loaded = browser.execute_script(
        """const t = performance.getEntriesByType("resource").find(e => e.name.includes("nf_search_index"));
           const s = performance.now(); nfSearch.search("change of variables");
           return [t?.duration ?? 0, performance.now() - s];"""
    )
    assert loaded[0] < 300 * 5 and loaded[1] < 300 * 2, loaded  # other work runs on the machine that tests
    field = browser.find_element("css selector", ".nf-search input")
    field.clear()
    field.send_keys("squeeze")
    wait(lambda: "squeeze" in browser.execute_script("return document.querySelector('#search-results').textContent")
         and "q=squeeze" in browser.current_url)  # fmt: skip
    keys(field, "ARROW_DOWN")
    assert browser.execute_script("return document.activeElement.closest('.nf-hit') !== null")
    status = browser.find_element("id", "search-status")
    assert status.get_attribute("aria-live") == "polite" and re.match(r"\d+ places? found", status.text)
    assert not complaints(browser)


def test_nothing_found_says_what_to_try(browser):
    assert not look_for(browser, "xyzzyx")
    assert "Nothing found" in browser.find_element("id", "search-status").text
    links = browser.find_elements("css selector", ".nf-nothing a")
    assert len(links) == 3 and all((HTML / a.get_attribute("href").partition("/html/")[2]).is_file() for a in links)
    look_for(browser, "%3Cimg src=x onerror=alert(1)%3E")
    assert not browser.find_elements("css selector", "#search-results img") and not complaints(browser)
    look_for(browser, "price $& $` $1")
    assert browser.execute_script("return document.title").startswith("Search: price $& $` $1")


def test_the_themes_dialog_leads_to_the_results(browser):
    visit(browser, CHAPTERS[0])
    browser.execute_script("document.querySelector('.search-button__button, button.search-button').click()")
    field = wait(lambda: [f for f in browser.find_elements("css selector", "input[name=q]") if f.is_displayed()])[0]
    field.send_keys("MADE")
    keys(field, "ENTER")
    wait(lambda: "search.html" in browser.current_url and browser.find_elements("css selector", HITS))
    assert browser.find_element("css selector", ".nf-search input").get_attribute("value") == "MADE"
    assert not complaints(browser)


CARD = ".nf-preview[data-ready]"


def card(browser):
    return wait(lambda: browser.find_elements("css selector", CARD))[0]


def gone(browser):
    wait(lambda: not browser.find_elements("css selector", ".nf-preview"))


def centre(browser, selector):
    """Bring the first link of a kind to the middle, and wait until nothing moves it any more."""
    link = browser.find_elements("css selector", selector)[0]
    before = None
    for _ in range(60):
        browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", link)
        browser.execute_async_script("setTimeout(arguments[0], 100)")
        now = browser.execute_script("return arguments[0].getBoundingClientRect().top", link)
        if now == before:
            break
        before = now
    return link


def hover(browser, link):
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser, duration=0).move_to_element(link).perform()


ROOM = """const r = document.querySelector(".nf-preview").getBoundingClientRect(), d = document.documentElement;
          return [r.left, r.top, d.clientWidth - r.right, d.clientHeight - r.bottom]"""


def inside_the_window(browser):
    def room():
        return browser.execute_script(ROOM)

    wait(lambda: min(room()) >= 0)  # the formulas make it grow
    browser.execute_async_script("setTimeout(arguments[0], 200)")
    assert min(room()) >= 0, room()


LINKS = {  # what the card says, and whether it holds a formula
    ".bd-article section > p a[href^='#thm-09-']": ("Theorem 9", True),
    ".bd-article section > p a[href^='#equation-eq-09-']": ("(9.", True),
    ".bd-article section > p .bibtex-citation a[title*='Dinh']": ("Dinh", False),
    ".bd-article a.nf-term": ("", False),
}
TITLE_OF = "return arguments[0].title || arguments[0].dataset.nfTitle || ''"  # put aside while the card is there
WIDTHS = "return [...document.querySelectorAll('.nf-preview mjx-math')].map(e => e.offsetWidth)"


def test_a_link_shows_where_it_leads(browser):
    visit(browser, next(c for c in CHAPTERS if "/09_" in c))
    for scheme in ("light", "dark"):
        browser.execute_script("document.documentElement.dataset.theme = arguments[0]", scheme)
        for selector, (text, formula) in LINKS.items():
            link = centre(browser, selector)
            title = browser.execute_script(TITLE_OF, link)
            hover(browser, link)
            shown = card(browser)
            assert text in shown.text and shown.get_attribute("role") == "tooltip", selector
            assert link.get_attribute("aria-describedby") == shown.get_attribute("id")
            assert not link.get_attribute("title"), "two tips at once"
            if formula:
                assert max(wait(lambda: browser.execute_script(WIDTHS))) > 10
                assert "\\(" not in shown.text and "\\[" not in shown.text
            inside_the_window(browser)
            plate, ink = browser.execute_script(
                """const s = getComputedStyle(arguments[0]);
                   return [s.backgroundColor, s.color].map(c => c.match(/\\d+/g).map(Number)[1]);""",
                shown,
            )
            assert abs(plate - ink) > 120 and (plate < 100) == (scheme == "dark")
            keys(browser.switch_to.active_element, "ESCAPE")
            gone(browser)
            assert link.get_attribute("aria-describedby") is None and link.get_attribute("title") == title
    assert not complaints(browser)


def test_a_card_comes_from_another_page_and_stays_in_a_narrow_window(browser):
    page = next(c for c in CHAPTERS if "/11_" in c)
    visit(browser, page)
    view(browser, 390, 800)
    link = centre(browser, ".bd-article section > p a[href*='.html#thm-']")
    hover(browser, link)
    assert re.match(r"(Theorem|Definition|Lemma|Proposition|Corollary) \d", card(browser).text)
    inside_the_window(browser)
    assert not complaints(browser)


def test_the_keyboard_shows_a_card_and_the_finger_does_not(browser):
    visit(browser, next(c for c in CHAPTERS if "/09_" in c))
    link = centre(browser, ".bd-article section > p a[href^='#thm-09-']")
    # the element before it gets the focus, and Tab goes on from there
    browser.execute_script("const s = document.createElement('button'); arguments[0].before(s); s.focus();", link)
    keys(browser.switch_to.active_element, "TAB")
    assert browser.switch_to.active_element == link
    assert "Theorem 9" in card(browser).text
    keys(link, "ESCAPE")
    gone(browser)
    assert browser.switch_to.active_element == link
    browser.execute_script(
        """const over = new PointerEvent("pointerover", {pointerType: "touch", bubbles: true});
           document.activeElement.blur(); arguments[0].dispatchEvent(over);""",
        link,
    )
    browser.execute_async_script("setTimeout(arguments[0], 600)")
    assert not browser.find_elements("css selector", ".nf-preview")
    assert not complaints(browser)
