/* Search in the book's sections, from disk: the index is a script (nf_search_index.js, made by book/ext/nf_search.py).
   Words are folded (accents, Greek letters, plurals, -ise and -ize), but a word in capitals that the book has in capitals
   is taken literally: MADE is not made. Words with a hyphen are found with, without and as two. */
(() => {
  "use strict";
  const KINDS = { section: "", theorem: "", exercise: "", figure: "Figure", box: "", term: "Glossary", name: "Package",
                  method: "Package", source: "Source" };
  const WEIGHT = { section: 1, theorem: 1.15, term: 1.3, exercise: 0.6, figure: 0.7, box: 0.8, name: 0.8,
                   method: 0.4, source: 0.6 };
  // Ways to say the same. Capitals are taken literally.
  const SAME = [
    ["ELBO", "evidence lower bound", "variational lower bound"], ["MAF", "masked autoregressive flow"],
    ["IAF", "inverse autoregressive flow"], ["MADE", "masked autoencoder"], ["RealNVP", "real nvp"],
    ["NICE", "additive coupling"], ["CDF", "distribution function"], ["PDF", "probability density", "density function"],
    ["log det", "log determinant", "logdet", "log jacobian", "ladj"],
    ["jacobian determinant", "determinant of the jacobian", "det j"], ["KL", "kullback leibler", "relative entropy"],
    ["EM", "expectation maximization"], ["VAE", "variational autoencoder", "variational auto encoder"],
    ["GMM", "gaussian mixture", "mixture of gaussians"], ["NLL", "negative log likelihood"],
    ["MLE", "maximum likelihood"], ["MAP", "maximum a posteriori"], ["RQS", "rational quadratic spline", "neural spline"],
    ["bpd", "bits per dimension", "bits per dim"], ["NF", "normalizing flow"], ["a e", "almost everywhere"],
    ["pushforward", "image measure"], ["change of variables", "transformation formula"],
    ["sigma algebra", "sigma field"], ["radon nikodym derivative", "density"], ["iid", "independent and identically"],
    ["PLU", "lu decomposition", "plu decomposition"], ["MoG", "mixture of gaussians"], ["temperature", "reduced variance"],
  ];
  const COMMON_WORDS = new Set(["MADE", "NICE", "EM", "MAP"]);  // in small letters they mean something else
  const STOP = new Set(("a an and are as at be by can do does for from how i in is it of on or shall should that the this to "
    + "was we what when where which who why will with work works mean means").split(" "));
  const GREEK = { α: "alpha", β: "beta", γ: "gamma", δ: "delta", ε: "epsilon", ζ: "zeta", η: "eta", θ: "theta", κ: "kappa",
    λ: "lambda", μ: "mu", ν: "nu", ξ: "xi", π: "pi", ρ: "rho", σ: "sigma", ς: "sigma", τ: "tau", φ: "phi", ϕ: "phi",
    χ: "chi", ψ: "psi", ω: "omega" };
  const ODD = { matrices: "matrix", vertices: "vertex", indices: "index", hypotheses: "hypothesis", bases: "base",
    colour: "color", colours: "color", behaviour: "behavior", neighbour: "neighbor", neighbours: "neighbor",
    normalisation: "normalization", axes: "axis" };

  const fold = raw => {
    let w = raw.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase().replace(/ß/g, "ss").replace(/ø/g, "o");
    w = w.replace(/[α-ωϕ]/g, c => GREEK[c] ?? c);
    if (Object.hasOwn(ODD, w)) return ODD[w];
    if (w.length > 3 && w.endsWith("s") && !/(ss|us|is)$/.test(w)) w = w.endsWith("ies") ? w.slice(0, -3) + "y" : w.slice(0, -1);
    return w.replace(/^(\w{4,})is(e|ed|ing|ation|er|able)$/, "$1iz$2").replace(/ll(ing|ed|er)$/, "l$1");
  };
  const cache = new Map();
  const norm = raw => { if (!cache.has(raw)) cache.set(raw, fold(raw)); return cache.get(raw); };
  const WORD = /[\p{L}\p{N}_]+/gu;
  const words = text => Array.from(text.matchAll(WORD), m => ({ raw: m[0], word: norm(m[0]), start: m.index, end: m.index + m[0].length }));

  /* the inverted index: word -> [entry, field, position, length in tokens, raw]; fields: 0 title, 1 text, 2 code */
  let posts = null, entries = null, vocabulary = null;
  function prepare() {
    if (posts) return;
    posts = new Map(); vocabulary = [];
    const post = (word, p) => { const list = posts.get(word); list ? list.push(p) : posts.set(word, [p]); };
    entries = window.nfSearchIndex.map(([page, anchor, kind, title, text, code, section], n) => {
      const e = { page, anchor, kind, title, text, section, fields: [words(title), words(text), words(code)] };
      e.fields.forEach((tokens, field) => tokens.forEach((t, i) => {
        post(t.word, [n, field, i, 1, t.raw]);
        const next = tokens[i + 1], source = field ? text : title;
        if (field < 2 && next && next.start === t.end + 1 && /[-‐‑–]/.test(source[t.end]))
          post(norm(t.raw + next.raw), [n, field, i, 2, ""]);  // push-forward is pushforward
      }));
      return e;
    });
    vocabulary = [...posts.keys()];
  }

  const capital = raw => /^\p{Lu}[\p{Lu}\p{N}]+s?$/u.test(raw);
  const literally = raw => capital(raw) && (posts.get(norm(raw)) ?? []).some(p => p[4] === raw || p[4] === raw + "s" || p[4] + "s" === raw);

  /* all places of one phrase: [entry, field, position, length] */
  function places(phrase) {
    const [first, ...rest] = words(phrase);
    if (!first) return [];
    const exact = capital(first.raw) && literally(first.raw);
    return (posts.get(first.word) ?? []).filter(([n, field, i, length, raw]) => {
      if (exact && raw.replace(/s$/, "") !== first.raw.replace(/s$/, "")) return false;
      return rest.every((t, k) => entries[n].fields[field][i + length + k]?.word === t.word);
    }).map(([n, field, i, length]) => [n, field, i, length + rest.length]);
  }
  const TABLE = SAME.map(group => group.map(phrase => ({ phrase, key: words(phrase).map(t => t.word).join(" ") })));
  const same = (key, raw) => TABLE.flatMap(group => group.some(g => g.key === key &&
    !(COMMON_WORDS.has(g.phrase) && !capital(raw))) ? group.map(g => g.phrase) : []);

  /* a query becomes units; each is a list of phrases that mean the same */
  function units(query) {
    const found = [], tokens = words(query);
    for (let i = 0; i < tokens.length;) {
      let taken = 0, phrases = [];
      for (let n = Math.min(4, tokens.length - i); n > 0 && !taken; n--) {
        const part = tokens.slice(i, i + n), text = query.slice(part[0].start, part[n - 1].end);
        const plain = part.map(t => t.raw).join(" "), joined = part.map(t => t.raw).join("");
        const others = [...same(part.map(t => t.word).join(" "), plain), ...(n > 1 ? same(norm(joined), joined) : [])];
        const hyphened = n > 1 && n < 4 && !/\s/.test(text);
        const known = n === 2 && posts.has(norm(joined)) && !STOP.has(part[0].word);
        if (n > 1 && !others.length && !hyphened && !known) continue;
        phrases = [...new Set([plain, ...(n > 1 ? [joined] : []), ...others])];
        taken = n;
      }
      found.push({ phrases, stop: taken === 1 && STOP.has(tokens[i].word) && !literally(tokens[i].raw), text: phrases[0] });
      i += taken;
    }
    const real = found.filter(u => !u.stop);
    return real.length ? real : found;
  }

  function hits(unit) {
    const byEntry = new Map();
    const add = ([n, field, i, length], value) => {
      if (!byEntry.has(n)) byEntry.set(n, { score: 0, counts: [0, 0, 0], marks: [[], []] });
      const hit = byEntry.get(n);
      hit.counts[field] += value;
      if (field < 2) hit.marks[field].push([i, length]);
    };
    unit.phrases.forEach((phrase, k) => places(phrase).forEach(p => add(p, k ? 0.8 : 1)));
    const start = words(unit.text)[0]?.word ?? "";
    if (!unit.text.includes(" ") && start.length > 3 && !literally(unit.text))  // the beginning of a longer word counts less
      for (const word of vocabulary)
        if (word !== start && word.startsWith(start)) posts.get(word).forEach(p => add(p, 0.3));
    for (const [n, hit] of byEntry) {
      const [title, text, code] = hit.counts, length = entries[n].fields[0].length;
      hit.score = (title ? 5 * Math.min(title, 1) + 4 * Math.min(title, 1) / Math.max(1, length) : 0)
        + 2 * text / (text + 1.5) + 1.2 * Math.min(text, 1) * Math.min(1, 40 / (entries[n].fields[1].length + 1))
        + (code ? 0.3 : 0);
      if (window.nfSearchPages[entries[n].page][1] && words(window.nfSearchPages[entries[n].page][1])
        .some(t => words(unit.text).some(u => u.word === t.word))) hit.score += 0.8;
    }
    return byEntry;
  }

  function search(query) {
    prepare();
    const wanted = units(query), found = wanted.map(hits), total = new Map();
    found.forEach((byEntry, k) => byEntry.forEach((hit, n) => {
      const sum = total.get(n) ?? { n, score: 0, units: 0, marks: [[], []] };
      const rare = Math.log(1 + entries.length / byEntry.size);
      sum.score += hit.score * rare; sum.units++;
      hit.marks.forEach((m, field) => sum.marks[field].push(...m));
      total.set(n, sum);
    }));
    const most = Math.max(0, ...Array.from(total.values(), s => s.units));
    const whole = wanted.length > 1 ? new Set(places(query).map(p => p[0])) : new Set();
    const enough = most > 2 ? most - 1 : most;  // of three words or more one may be missing, further down
    const chapter = entry => /^chapters\//.test(window.nfSearchPages[entry.page][0]) ? 1.15
      : /benchmarks|status|instructors/.test(window.nfSearchPages[entry.page][0]) ? 0.7 : 1;
    const results = [...total.values()].filter(s => s.units >= enough).map(s => ({ ...s, entry: entries[s.n],
      score: (s.score + (whole.has(s.n) ? 6 : 0)) * (s.units / most) ** 3 * WEIGHT[entries[s.n].kind] * chapter(entries[s.n]) }))
      .sort((a, b) => b.score - a.score || a.n - b.n);
    return { results, partial: wanted.length > most && results.length > 0 };
  }

  /* what the reader sees */
  const make = (tag, properties = {}, ...children) => { const e = Object.assign(document.createElement(tag), properties); e.append(...children); return e; };

  function marked(text, tokens, marks, from = 0, to = text.length) {
    const out = [], spans = marks.map(([i, n]) => [tokens[i].start, tokens[Math.min(i + n, tokens.length) - 1].end])
      .filter(([a, b]) => a >= from && b <= to).sort((x, y) => x[0] - y[0]);
    let at = from;
    for (const [a, b] of spans) if (a >= at) { out.push(text.slice(at, a), make("mark", {}, text.slice(a, b))); at = b; }
    return [...out, text.slice(at, to)];
  }

  function excerpt({ entry, marks }) {
    const { text, fields } = entry, room = 230, tokens = fields[1];
    let from = 0;
    if (marks[1].length && text.length > room) {  // the stretch with the most different hits
      const starts = marks[1].map(([i]) => tokens[i].start).sort((a, b) => a - b);
      let best = 0;
      for (const s of starts) {
        const count = new Set(starts.filter(t => t >= s && t < s + room - 70)
          .map(t => text.slice(t, t + 5).toLowerCase())).size * 4 + starts.filter(t => t >= s && t < s + room - 70).length;
        if (count > best) { best = count; from = s; }
      }
      from = Math.max(0, from - 60);
      if (from) { const stop = text.slice(from, from + 60).search(/[.!?] /); from += stop >= 0 && stop < 45 ? stop + 2 : text.slice(from).search(/\s/) + 1; }
    }
    let to = Math.min(text.length, from + room);
    if (to < text.length) to = Math.max(from + 1, text.lastIndexOf(" ", to));
    return [from ? "… " : "", ...marked(text, tokens, marks[1], from, to), to < text.length ? " …" : ""];
  }

  function row(result) {
    const { entry, marks } = result, [page, title] = window.nfSearchPages[entry.page];
    const root = document.documentElement.dataset.content_root ?? "./";
    const name = entry.title || (entry.kind === "source" ? "Bibliography" : title);
    const link = make("a", { href: `${root}${page}.html${entry.anchor ? "#" + encodeURIComponent(entry.anchor) : ""}` },
      ...marked(name, words(name), entry.title ? marks[0] : []));
    const path = [KINDS[entry.kind], KINDS[entry.kind] === "Package" ? "" : title, entry.section].filter((p, i, all) => p && p !== name && all.indexOf(p) === i);
    const item = make("li", { className: `nf-hit nf-hit-${entry.kind === "method" ? "name" : entry.kind}` }, link);
    if (path.length) item.append(make("p", { className: "nf-hit-path" }, path.join(" › ")));
    if (entry.text) item.append(make("p", { className: "nf-hit-text" }, ...excerpt(result)));
    return item;
  }

  const STEP = 20;
  function show(query, box, status) {
    box.replaceChildren();
    if (!query.trim()) { status.textContent = "Type a word, a name or an acronym."; return; }
    const { results, partial } = search(query), count = results.length;
    status.textContent = (count ? `${count} ${count === 1 ? "place" : "places"} found` : "Nothing found")
      + (partial ? "; none has all the words, so these have some of them." : ".");
    if (!count) {
      const root = document.documentElement.dataset.content_root ?? "./";
      box.append(make("div", { className: "nf-nothing" }, make("p", {}, "What you can try:"), make("ul", {},
        make("li", {}, "fewer words, or the beginning of one (“determ”);"),
        make("li", {}, "small letters: capitals are taken literally where the book has them (MADE is not made);"),
        make("li", {}, "another word for it: see the ", make("a", { href: `${root}book/glossary.html` }, "glossary"), ", the ",
          make("a", { href: `${root}book/notation.html` }, "notation"), " or the ",
          make("a", { href: `${root}genindex.html` }, "index of names"), "."))));
      return;
    }
    const list = make("ul", { className: "search" });
    box.append(list);
    let shown = 0;
    const more = make("button", { type: "button", className: "nf-more" });
    const next = () => {
      const fresh = results.slice(shown, shown + STEP).map(row), first = shown;
      list.append(...fresh);
      shown += fresh.length;
      if (first) fresh[0].querySelector("a").focus();
      if (shown < count) { more.textContent = `Show more (${count - shown})`; box.append(more); } else more.remove();
    };
    more.addEventListener("click", next);
    next();
  }

  function start() {
    const box = document.getElementById("search-results"), status = document.getElementById("search-status");
    const form = document.querySelector(".nf-search form"), field = form?.querySelector("input");
    if (!box || !field || !window.nfSearchIndex) return;
    field.value = new URLSearchParams(location.search).get("q") ?? "";
    let last = null, timer = 0;
    const run = () => {
      clearTimeout(timer);
      if (field.value === last) return;
      last = field.value;
      show(last, box, status);
      const address = new URL(location.href);
      address.searchParams.set("q", last);
      try { history.replaceState(null, "", address); } catch { /* some browsers refuse it for files */ }
      const title = last ? `Search: ${last.replace(/-/g, "‑")} ` : "Search ";
      document.title = document.title.replace(/^Search[^-]*/, () => title);  // a query may hold $&
    };
    field.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(run, 150); });
    form.addEventListener("submit", event => { event.preventDefault(); run(); });
    // arrows walk through the results
    document.querySelector(".nf-search").addEventListener("keydown", event => {
      if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
      const stops = [field, ...box.querySelectorAll("a, button")], at = stops.indexOf(document.activeElement);
      const to = stops[at + (event.key === "ArrowDown" ? 1 : -1)];
      if (at >= 0 && to) { event.preventDefault(); to.focus(); }
    });
    run();
    if (!field.value) field.focus();
  }
  window.nfSearch = { search };  // for the tests
  document.readyState === "loading" ? addEventListener("DOMContentLoaded", start) : start();
})();
