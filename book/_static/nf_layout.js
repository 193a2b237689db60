// Folds, formulas and boxes that scroll. Without this script folds still open and boxes still scroll.
(() => {
  "use strict";

  // ---- folds: open on paper, and when a link leads into one
  const opened = new Set();
  const openAll = () => document.querySelectorAll("details:not([open])").forEach((d) => {
    opened.add(d);
    d.open = true;
  });
  const closeAgain = () => {
    opened.forEach((d) => { d.open = false; });
    opened.clear();
  };
  addEventListener("beforeprint", openAll);
  addEventListener("afterprint", closeAgain);

  const target = () => {
    try {
      return document.getElementById(decodeURIComponent(location.hash.slice(1)));
    } catch {
      return null; // a hash that is no text
    }
  };
  const reveal = () => {
    const goal = location.hash.length > 1 && target();
    if (!goal) return;
    let closed = false;
    for (let d = goal.closest("details"); d; d = d.parentElement.closest("details")) {
      closed ||= !d.open;
      d.open = true;
    }
    if (closed) goal.scrollIntoView({ block: "start", behavior: "instant" });
  };
  addEventListener("hashchange", reveal);
  document.addEventListener("click", (event) => { // the hash may be there already
    const link = event.target.closest?.('a[href*="#"]');
    if (link && link.pathname === location.pathname && link.hash === location.hash) setTimeout(reveal);
  });

  // ---- boxes that scroll: a fading edge on the side where more is, a stop for the Tab key, a name
  const BOXES = ".bd-article :is(.math, pre, .pst-scrollable-table-container, .nf-scroll)";
  const KINDS = [[".math", "Formula"], ["pre", "Code"], ["*", "Table"]];
  let count = 0;
  const name = (box) => {
    const number = box.querySelector(":scope > .eqno")?.textContent.replace(/[^\d.()]/g, "") || (count += 1);
    return `${KINDS.find(([s]) => box.matches(s))[1]} ${number}, scrolls sideways`;
  };
  const fade = (box) => {
    const left = box.scrollLeft > 1;
    const right = box.scrollLeft + box.clientWidth < box.scrollWidth - 1;
    box.dataset.nfMore = left && right ? "both" : left ? "left" : right ? "right" : "none";
  };
  const measure = (boxes) => {
    // an accent may stand a little over the edge of its letter; read all, then write
    const wide = boxes.map((box) => box.scrollWidth > box.clientWidth + (box.querySelector("mjx-mover") ? 4 : 1) && scrolls(box));
    boxes.forEach((box, k) => {
      if (wide[k] && !box.hasAttribute("data-nf-more")) {
        box.onscroll = () => fade(box);
        if (!box.hasAttribute("role")) {
          box.setAttribute("role", "region");
          box.setAttribute("aria-label", name(box));
        }
      }
      if (wide[k]) {
        box.tabIndex = 0;
        fade(box);
      } else if (box.hasAttribute("data-nf-more")) {
        delete box.dataset.nfMore;
        box.removeAttribute("tabindex");
        if (/, scrolls sideways$/.test(box.getAttribute("aria-label"))) {
          box.removeAttribute("role");
          box.removeAttribute("aria-label");
        }
      }
    });
  };
  const scrolls = (box) => /auto|scroll/.test(getComputedStyle(box).overflowX);

  const waiting = new Set();
  const later = (boxes) => {
    if (!waiting.size && boxes.length) {
      setTimeout(() => {
        const now = [...waiting];
        waiting.clear();
        measure(now);
      }, 30);
    }
    boxes.forEach((box) => waiting.add(box));
  };
  const all = () => later([...document.querySelectorAll(BOXES)]);

  const start = () => {
    const article = document.querySelector(".bd-article");
    if (!article) return;
    all();
    addEventListener("resize", all);
    document.fonts?.ready.then(all);
    document.addEventListener("toggle", (event) => {
      later([...event.target.querySelectorAll(BOXES)]);
    }, true);
    new MutationObserver((changes) => { // a formula has been set
      later([...new Set(changes.map((c) => c.target.closest?.(".math")).filter(Boolean))]);
    }).observe(article, { childList: true, subtree: true });
    reveal();

    // ui/lazy forgets formulas that come into view while it sets others: remind it
    const remind = () => {
      const math = window.MathJax?.startup?.document;
      if (math?.lazySet?.size && !math.lazyIdle) {
        math.lazyIdle = true;
        math.lazyProcessSet();
      }
    };
    setInterval(remind, 400);

    // formulas above the target take their place only now: stay with it unless the reader has moved on
    let moved = false;
    ["wheel", "touchstart", "keydown", "mousedown"].forEach((e) => {
      addEventListener(e, () => { moved = true; }, { passive: true, once: true });
    });
    if (location.hash.length > 1) {
      addEventListener("load", () => window.MathJax?.startup?.promise?.then(() => setTimeout(() => {
        if (!moved) target()?.scrollIntoView({ block: "start", behavior: "instant" });
      }, 300)));
    }
  };
  document.readyState === "loading" ? addEventListener("DOMContentLoaded", start) : start();
})();
