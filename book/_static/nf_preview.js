/* What a link inside the book leads to, shown beside it: under the mouse, or when it has the keyboard's focus.
   The cards of a page are a script (_static/tips/PAGE.js, made by book/ext/nf_search.py): files may not be fetched. */
(() => {
  "use strict";
  const root = new URL(document.documentElement.dataset.content_root ?? "./", location.href).href;
  const tips = window.nfTips ??= {}, loading = {};
  let card = null, current = null, sizes = null, timer = 0, turn = 0;

  const load = page => tips[page] ? Promise.resolve(tips[page]) : loading[page] ??= new Promise(done => {
    const script = document.createElement("script");
    script.src = `${root}_static/tips/${page}.js`;
    script.onload = () => done(tips[page] ?? {});
    script.onerror = () => done({});
    document.head.append(script);
  });

  function target(link) {
    if (!link?.matches?.(".bd-article a[href*='#']:not(.headerlink)") || link.closest("#search-results, .nf-preview")) return null;
    const [page, anchor] = link.href.split("#");
    return page.startsWith(root) && page.endsWith(".html") && anchor
      ? [decodeURIComponent(page.slice(root.length, -5)), decodeURIComponent(anchor)] : null;
  }

  /* below the link's line under the pointer, or above where there is more room; never over the edge */
  function place(link, x) {
    const lines = [...link.getClientRects()], line = lines.find(r => x >= r.left && x <= r.right) ?? lines[0];
    if (!line) return;
    const { clientWidth, clientHeight } = document.documentElement, under = clientHeight - line.bottom - 12;
    card.style.maxHeight = "";
    const below = card.offsetHeight <= under || line.top < under, room = below ? under : line.top - 12;
    if (card.offsetHeight > room) card.style.maxHeight = `${Math.max(room, 80)}px`;
    const left = Math.max(8, Math.min(line.left, clientWidth - card.offsetWidth - 8));
    card.style.left = `${left + scrollX}px`;
    card.style.top = `${(below ? line.bottom + 6 : line.top - card.offsetHeight - 6) + scrollY}px`;
  }

  async function show(link, x) {
    const [page, anchor] = target(link), mine = ++turn;
    const html = (await load(page))[anchor];
    if (mine !== turn || !html) return;
    if (!card) {
      card = document.createElement("div");
      card.id = "nf-preview";
      card.className = "nf-preview mathjax_ignore";
      card.setAttribute("role", "tooltip");
      card.addEventListener("pointerenter", () => clearTimeout(timer));
      card.addEventListener("pointerleave", later);
    }
    hide();
    turn = mine;
    card.innerHTML = html;
    card.querySelectorAll("img[data-src]").forEach(i => { i.src = root + i.dataset.src; });
    const inside = link.closest("dialog");
    (inside ?? document.body).append(card);
    current = link;
    if (link.title) { link.dataset.nfTitle = link.title; link.removeAttribute("title"); }  // one tip is enough
    link.setAttribute("aria-describedby", card.id);
    place(link, x);
    sizes?.disconnect();
    sizes = new ResizeObserver(() => current === link && place(link, x));  // formulas and pictures come later
    sizes.observe(card);
    [...card.children].forEach(part => sizes.observe(part));
    if (card.querySelector(".math") && window.MathJax?.startup?.promise) {
      await MathJax.startup.promise;
      if (current !== link) return;
      try { await MathJax.typesetPromise([card]); } catch (error) { console.warn(error); }
    }
    if (current === link) card.dataset.ready = "true";
  }

  function hide() {
    clearTimeout(timer);
    turn++;
    if (!current) return;
    current.removeAttribute("aria-describedby");
    if (current.dataset.nfTitle) { current.title = current.dataset.nfTitle; delete current.dataset.nfTitle; }
    current = null;
    sizes?.disconnect();
    window.MathJax?.typesetClear?.([card]);
    delete card.dataset.ready;
    card.remove();
  }
  function later() { clearTimeout(timer); timer = setTimeout(hide, 250); }

  document.addEventListener("pointerover", event => {
    if (event.pointerType !== "mouse") return;  // a finger follows the link
    const link = event.target.closest?.("a");
    if (!target(link)) return;
    clearTimeout(timer);
    if (link !== current) timer = setTimeout(show, 250, link, event.clientX);
  });
  document.addEventListener("pointerout", event => {
    const link = event.target.closest?.("a");
    if (event.pointerType === "mouse" && link && target(link) && !link.contains(event.relatedTarget)) later();
  });
  document.addEventListener("focusin", event => {
    if (event.target.matches(":focus-visible") && target(event.target)) show(event.target, 0);
  });
  document.addEventListener("focusout", event => { if (event.target === current) hide(); });
  document.addEventListener("keydown", event => { if (event.key === "Escape") hide(); });
  document.addEventListener("pointerdown", event => { if (!card?.contains(event.target)) hide(); });
})();
