"""The built book in a headless browser: where its pages are, how to open one, what went wrong in it.

The fixtures ``book``, ``pages`` and ``browser`` stand in conftest.py.
"""

import importlib.util
import json
import shutil
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
HTML = ROOT / "_build" / "html"
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text("utf8"))
PAGES = [TOC["root"], *(entry["file"] for part in TOC["parts"] for entry in part["chapters"])]
CHAPTERS = [page for page in PAGES if page.startswith("chapters/")]
EXTRA = ["search", "genindex"]

# What axe may report, by its own grades: nothing worse than minor. It finds nothing in the theme's parts either.
FORBIDDEN = {"moderate", "serious", "critical"}


def find(*names):
    return next((found for name in names if (found := shutil.which(name))), None)


def view(browser, width=1280, height=900, scheme="light"):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
    )
    features = [{"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": ""}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def visit(browser, page, query="", everything=True, **options):
    """Open a page from disk and wait for its formulas: all of them, or else those that come near the window."""
    view(browser, **options)
    browser.get_log("performance"), browser.get_log("browser")
    browser.get(f"{(HTML / page).as_uri()}.html{query}")
    browser.execute_async_script(
        """const done = arguments[0], ready = () => window.MathJax?.startup?.promise
             ? MathJax.startup.promise.then(() => setTimeout(done, 50)) : done();
           document.readyState === "complete" ? ready() : addEventListener("load", ready);"""
    )
    if everything:
        typeset(browser)


def typeset(browser):
    """Set the formulas that the page would set only when they come near the window."""
    browser.execute_async_script(
        """const done = arguments[0], math = window.MathJax?.startup?.document;
           math?.lazyTypesetAll ? math.lazyTypesetAll().then(() => setTimeout(done, 100)) : done();"""
    )


def visit_once(browser, page):
    """Open a page unless it is open already and no test has spoilt it: opening a chapter takes seconds."""
    if browser.execute_script("return window.nfOpened") != page:
        visit(browser, page)
        browser.execute_script("window.nfOpened = arguments[0]", page)
    return page


def complaints(browser):
    """Return what the page asked of other hosts, and what went wrong in it."""
    asked = []
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] in ("Network.requestWillBeSent", "Network.webSocketCreated"):
            url = message["params"].get("request", message["params"]).get("url", "")
            if not url.startswith(("file:", "data:", "blob:", "about:", "chrome:")):
                asked.append(url)
        if message["method"] == "Network.loadingFailed" and not message["params"].get("canceled"):
            asked.append("failed: " + message["params"].get("errorText", ""))
    return asked + [e["message"] for e in browser.get_log("browser") if e["level"] == "SEVERE"]


def unfold(browser):
    """Open every fold: what is inside must fit as well."""
    browser.execute_script("""document.querySelectorAll("details").forEach(d => { d.open = true; });""")
    time.sleep(0.2)  # what scrolls is marked a little later


def accessibility(browser, theme):
    """Run axe in one of the two schemes, of which only the colours differ; return the violations.

    The formulas are taken out first: MathJax draws a chapter's with 20,000 elements, and they are not of our making.
    Colours are judged on one of each kind of word, by its element and the three around it: all cost minutes.
    """
    folder = Path(importlib.util.find_spec("axe_playwright_python").submodule_search_locations[0])
    browser.execute_script(
        """const still = document.createElement("style");  // colours on their way to others have no contrast to measure
           still.textContent = "*, *::before, *::after { transition: none !important; animation: none !important; }";
           document.head.append(still); window.nfOpened = null;  // other tests open the page anew
           document.documentElement.dataset.theme = arguments[0];
           document.querySelectorAll("mjx-container").forEach(e => e.replaceWith("x"));""",
        theme,
    )
    browser.execute_script((folder / "axe.min.js").read_text("utf8"))
    result = browser.execute_async_script(
        """const done = arguments[1], colours = ["color-contrast"];
           const base = {preload: false, resultTypes: ["violations"]};
           const thin = () => {
             const seen = new Set(), name = e => e ? e.tagName + "." + e.className : "";
             document.querySelectorAll("article *, .bd-sidebar-secondary *").forEach(e => {
               const words = [...e.childNodes].filter(n => n.nodeType === 3 && n.data.trim());
               if (words.map(n => n.data).join("").trim().length < 2) return;  // axe passes over single characters
               const p = e.parentElement, kind = [e, p, p.parentElement, p.parentElement?.parentElement,
                 e.closest(".admonition, .nf-fold, figure, table, .cell_output")].map(name).join(" ");
               seen.has(kind) ? words.forEach(n => n.remove()) : seen.add(kind); });
             document.querySelectorAll("article pre span").forEach(e => { e.textContent || e.remove(); });
           };
           (async () => {
             const found = arguments[0] === "dark" ? [] :
               (await axe.run(document, {...base, rules: {"color-contrast": {enabled: false}}})).violations;
             thin();
             return [...found, ...(await axe.run(document, {...base, runOnly: colours})).violations];
           })().then(done, e => done(String(e)));""",
        theme,
    )
    assert isinstance(result, list), result
    return [
        f"{v['id']}: {node['html'][:200]} {node['failureSummary'][:300]}"
        for v in result
        if v["impact"] in FORBIDDEN
        for node in v["nodes"][:4]
    ]


def keys(element, *pressed):
    from selenium.webdriver.common.keys import Keys

    element.send_keys(*(getattr(Keys, k) for k in pressed))


def wait(condition, seconds=10):
    end = time.perf_counter() + seconds
    while not (value := condition()):
        assert time.perf_counter() < end, "nothing happened"
        time.sleep(0.05)
    return value
