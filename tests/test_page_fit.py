"""Every page fits: nothing is cut at 1280 pixels; at 390 what scrolls shows it; folds, print and accessibility."""

import time

import pytest
from browsing import CHAPTERS, EXTRA, PAGES, accessibility, unfold, view, visit, visit_once

# What has an edge of its own, and how it is called in a message.
CUT = """
  const article = document.querySelector("article, main"), style = getComputedStyle(article);
  const right = article.getBoundingClientRect().right - parseFloat(style.paddingRight) + 1.5, found = [];
  const say = (e, why) => found.push(`${why}: <${e.tagName.toLowerCase()} ${e.className}> ` +
    (e.id || e.textContent.trim().replace(/\\s+/g, " ").slice(0, 90)));
  for (const e of article.querySelectorAll("pre, .math, table, .pst-scrollable-table-container, .cell, .cell_input," +
       ".cell_output, figure, img, svg, .nf-player, .nf-live, .nf-schematic, .admonition, .nf-fold, p, dt, dd")) {
    if (!e.getClientRects().length || e.closest("mjx-container, svg svg")) continue;
    const over = e.scrollWidth - e.clientWidth;
    const look = getComputedStyle(e), spare = e.querySelector("mjx-mover") ? 4 : 1;  // an accent stands over its letter
    if (over > spare && look.display !== "inline" && look.overflowX !== "visible")
      say(e, `cut by ${over} px`);
    else if (e.getBoundingClientRect().right > right && !e.parentElement.closest("table, pre, .math"))
      say(e, `${Math.round(e.getBoundingClientRect().right - right)} px outside of the column`);
  }
  return found;"""

UNSEEN = """
  const found = [];
  for (const e of document.querySelectorAll("article *")) {
    // an accent may stand a little over the edge of its letter
    const over = e.scrollWidth - e.clientWidth;
    if (e.closest("mjx-container") || over <= (e.querySelector("mjx-mover") ? 4 : 1) || !e.clientWidth) continue;
    const style = getComputedStyle(e);
    const name = `<${e.tagName.toLowerCase()} ${e.className}> ` + e.textContent.trim().slice(0, 80);
    if (style.overflowX === "visible" || /inline$/.test(style.display)) continue;
    if (style.clipPath === "inset(50%)") continue;  // for ears alone
    if (!/auto|scroll/.test(style.overflowX)) { found.push(`cut: ${name}`); continue; }
    if (!/right|left|both/.test(e.dataset.nfMore) || style.maskImage === "none") found.push(`no cue: ${name}`);
    if (e.tabIndex !== 0 || !e.getAttribute("role") || !e.getAttribute("aria-label")) found.push(`no name: ${name}`);
  }
  return found;"""


@pytest.fixture(params=PAGES + EXTRA)
def opened(request, browser):
    return visit_once(browser, request.param)


def test_nothing_is_cut_at_1280(browser, opened):
    """No cell, output, formula, table or figure, also with everything unfolded: what is wide has the width."""
    view(browser, width=1280)
    unfold(browser)
    found = browser.execute_script(CUT)
    assert not found, f"{len(found)} cut:\n" + "\n".join(found[:40])


COLUMNS = """
  return [...document.querySelectorAll("article .cell pre")].filter(e => e.checkVisibility()).map(e => {
    const probe = document.createElement("span"), style = getComputedStyle(e);
    probe.textContent = "x".repeat(100);
    probe.style.cssText = "position: absolute; visibility: hidden";
    e.append(probe);
    const width = probe.getBoundingClientRect().width / 100;
    probe.remove();
    const columns = (e.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight)) / width;
    const shown = e.closest(".cell_output") && !e.closest(".output");
    return [shown ? "shown" : "cell", Math.floor(columns), e.textContent.slice(0, 60)];
  });"""


def test_code_has_its_columns(browser, opened):
    """76 in a cell and for what it prints, 96 in shown source: also within folds, whatever stands there today."""
    view(browser, width=1280)
    unfold(browser)
    least = {"cell": 76, "shown": 96}
    narrow = [row for row in browser.execute_script(COLUMNS) if row[1] < least[row[0]]]
    assert not narrow, narrow


def test_page_fits_a_phone(browser, opened):
    """Wide formulas, tables and code scroll in their own box and show it, all folds open; the page does not."""
    view(browser, width=390, height=844)
    unfold(browser)
    time.sleep(0.3)
    width, wide = browser.execute_script(
        """const out = e => e.getBoundingClientRect().right > 391, inBox = e => { for (let p = e.parentElement; p; p =
             p.parentElement) { const o = getComputedStyle(p).overflowX; if (o !== "visible" && p !== document.body
             && p !== document.documentElement) return true; } return false; };
           return [Math.max(document.documentElement.scrollWidth, document.body.scrollWidth),
             [...document.querySelectorAll("article *")].filter(e => out(e) && !inBox(e)).slice(0, 5)
               .map(e => e.outerHTML.slice(0, 160))];"""
    )
    assert width <= 390 and not wide, f"{width} px wide: {wide}"
    found = browser.execute_script(UNSEEN)
    assert not found, f"{len(found)}:\n" + "\n".join(found[:40])


def test_page_is_accessible(browser, opened):
    """In both schemes. This test comes last: it takes the page apart."""
    view(browser)
    unfold(browser)
    found = [f"{theme}: {line}" for theme in ("light", "dark") for line in accessibility(browser, theme)]
    assert not found, "\n".join(found)


def test_axe_sees_one_pale_kind_of_word(browser):
    visit(browser, CHAPTERS[0])
    browser.execute_script(
        """const style = document.createElement("style");
           style.textContent = ".highlight .n { color: #ddd !important; }"; document.head.append(style);"""
    )
    assert any("color-contrast" in line and 'class="n"' in line for line in accessibility(browser, "light"))


def test_the_measurements_see_what_is_cut(browser):
    visit(browser, "book/notation")
    browser.execute_script(
        """const a = document.querySelector("article section"), add = h => a.insertAdjacentHTML("beforeend", h);
           add("<div class=cell><pre>" + "x".repeat(200) + "</pre></div>");
           add("<figure style='width: 2000px'>wide</figure>");
           add("<div class=nf-player style='overflow: hidden; width: 9em'>" +
             "<div style='width: 30em'>wide</div></div>");"""
    )
    found = browser.execute_script(CUT)
    assert len(found) == 3 and "cut" in found[0] and "outside" in found[1] and "cut" in found[2], found
    view(browser, width=390, height=844)
    time.sleep(0.3)
    unseen = browser.execute_script(UNSEEN)
    assert len(unseen) == 1 and "cut: <div nf-player>" in unseen[0], unseen
    browser.execute_script("delete document.querySelector('[data-nf-more]').dataset.nfMore")
    assert any("no cue" in line for line in browser.execute_script(UNSEEN))
