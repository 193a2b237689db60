"""The built book, page by page: valid HTML, and a real browser that is cut off from every network."""

import re
import subprocess
import sys
import time
from urllib.parse import unquote, urldefrag, urlparse

import pytest
import yaml
from browsing import CHAPTERS, EXTRA, HTML, PAGES, ROOT, accessibility, complaints, keys, unfold, view, visit, wait


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
        for code in main.select("pre, code"):
            code.extract()
        found = odd.search(main.get_text())
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


@pytest.fixture(scope="module", params=PAGES + EXTRA)
def opened(request, browser):
    """A page, opened once for the tests that follow."""
    visit(browser, request.param)
    return request.param


def test_page_works_offline(browser, opened):
    """No request to another host, no error, every formula set."""
    assert not complaints(browser)
    formulas, drawn, errors = browser.execute_script(
        """const n = s => document.querySelectorAll(s).length;
           return [n("article .math"), n("article mjx-container"), n("mjx-merror, [data-mjx-error]")];"""
    )
    assert drawn >= formulas and not errors, f"{formulas} formulas, {drawn} drawn, {errors} with errors"
    assert formulas > 20 or opened not in CHAPTERS


def test_page_fits_a_phone(browser, opened):
    """Wide formulas, tables and code scroll in their own box; the page does not, also with everything unfolded."""
    view(browser, width=390, height=844)
    unfold(browser)
    time.sleep(0.2)
    width, wide = browser.execute_script(
        """const out = e => e.getBoundingClientRect().right > 391, inBox = e => { for (let p = e.parentElement; p; p =
             p.parentElement) { const o = getComputedStyle(p).overflowX; if (o !== "visible" && p !== document.body
             && p !== document.documentElement) return true; } return false; };
           return [Math.max(document.documentElement.scrollWidth, document.body.scrollWidth),
             [...document.querySelectorAll("article *")].filter(e => out(e) && !inBox(e)).slice(0, 5)
               .map(e => e.outerHTML.slice(0, 160))];"""
    )
    assert width <= 390 and not wide, f"{width} px wide: {wide}"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_page_is_accessible(browser, opened, theme):
    view(browser)
    unfold(browser)
    found = accessibility(browser, theme)
    assert not found, "\n".join(found)


def test_axe_sees_one_pale_kind_of_word(browser):
    visit(browser, CHAPTERS[0])
    browser.execute_script(
        """const style = document.createElement("style");
           style.textContent = ".highlight .n { color: #ddd !important; }"; document.head.append(style);"""
    )
    assert any("color-contrast" in line and 'class="n"' in line for line in accessibility(browser, "light"))


def test_source_pages_work(browser, book):
    for path in sorted((book / "_modules").rglob("*.html")):
        visit(browser, path.relative_to(book).as_posix().removesuffix(".html"), width=390)
        assert not complaints(browser), path
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 390, path


@pytest.fixture(scope="module", params=CHAPTERS)
def chapter(request, browser):
    """A chapter, opened once, on a machine that prefers dark pages."""
    visit(browser, request.param, scheme="dark")
    return request.param


def test_pictures_stand_on_a_light_plate_in_the_dark(browser, chapter):
    assert browser.execute_script("return document.documentElement.dataset.theme") == "dark"
    grounds = browser.execute_script(
        """return [...document.querySelectorAll("article .cell_output img, article figure img")].map(e => {
             for (let p = e; p; p = p.parentElement) { const c = getComputedStyle(p).backgroundColor;
               if (c !== "rgba(0, 0, 0, 0)") return c; } });"""
    )
    assert grounds and all(min(map(int, re.findall(r"\d+", g)[:3])) > 230 for g in grounds), set(grounds)


def test_players_move(browser, chapter):
    """By the arrow keys and by the play button, from the keyboard, without a kernel."""
    players = browser.find_elements("css selector", ".nf-player")
    assert len(players) >= 2
    for player in players:
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
        keys(button, "ENTER")
        wait(lambda: shown() >= [2])
        keys(button, "SPACE")
        where = shown()
        time.sleep(1)
        assert shown() == where, "the second press does not stop it"
    assert not complaints(browser)


def test_proofs_and_solutions_fold(browser, chapter):
    """Folded at first, and opened by the keyboard."""
    for selector in (".proof.dropdown", ".solution.dropdown"):
        boxes = browser.find_elements("css selector", f"article {selector}")
        assert boxes, selector
        for box in boxes:
            folded = box.size["height"]
            keys(box.find_element("css selector", "button"), "ENTER")
            wait(lambda box=box, folded=folded: box.size["height"] > folded + 20)


HEIGHTS = """return [...document.querySelectorAll("article :is(.proof.dropdown, .solution.dropdown)")]
               .map(e => [...e.children].slice(1).reduce((sum, child) => sum + child.offsetHeight, 0));"""


@pytest.mark.parametrize("page", CHAPTERS)
def test_proofs_are_printed_and_need_no_script(browser, page):
    """Nothing stays hidden on paper, nor where JavaScript is switched off."""
    visit(browser, page)
    assert set(browser.execute_script(HEIGHTS)) == {0}, "folded on the screen"
    browser.execute_script("window.dispatchEvent(new Event('beforeprint'));")
    wait(lambda: min(browser.execute_script(HEIGHTS)) > 10)
    browser.execute_script("window.dispatchEvent(new Event('afterprint'));")
    wait(lambda: set(browser.execute_script(HEIGHTS)) == {0})
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get((HTML / page).as_uri() + ".html")
        wait(lambda: min(browser.execute_script(HEIGHTS)) > 10)
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


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
