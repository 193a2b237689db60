// Darts at an arm of the inflated pinwheel; a dart hits if what it comes from lies in the ellipse A.
live("darts", ({ state, data, planes }) => {
  const { plane, base } = planes, { rate, angle, middle, half, area, drawn, smallest } = data;
  const turn = (w, t) => {
    const c = Math.cos(t), s = Math.sin(t);
    return [c * w[0] - s * w[1], s * w[0] + c * w[1]];
  };
  const warp = (w) => {
    const r = Math.hypot(...w), g = r ? Math.sinh(rate * r) / (rate * r) : 1, u = turn(w, angle * r);
    return [g * u[0], g * u[1]];
  };
  const unwarp = (x) => {
    const s = rate * Math.hypot(x[0], x[1]), g = s ? Math.asinh(s) / s : 1, u = [g * x[0], g * x[1]];
    return turn(u, -angle * Math.hypot(u[0], u[1]));
  };
  // mulberry32: the package draws the same bits
  const uniform = (seed) => {
    let a = 1000 * seed;
    return () => {
      a = (a + 0x6d2b79f5) | 0;
      let t = Math.imul(a ^ (a >>> 15), a | 1);
      t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
      return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
    };
  };
  const ellipse = Array.from({ length: 240 }, (_, k) => {
    const t = (2 * Math.PI * k) / 240;
    return [middle + half[0] * Math.cos(t), half[1] * Math.sin(t)];
  });
  const outline = ellipse.map(warp);
  const near = (w) => w[0] > base.x0 && w[0] < base.x1 && w[1] > base.y0 && w[1] < base.y1;
  const draw = () => {
    const { board: [low, high], n, seed } = state, [[x0, y0], [x1, y1]] = [low, high], next = uniform(seed);
    let hits = 0;
    const shown = { hits: [[], []], misses: [[], []] };
    for (let j = 0; j < n; j++) {
      const x = [x0 + next() * (x1 - x0), y0 + next() * (y1 - y0)], w = unwarp(x);
      const hit = ((w[0] - middle) / half[0]) ** 2 + (w[1] / half[1]) ** 2 <= 1;
      hits += hit;
      if (j >= drawn) continue;
      const to = shown[hit ? "hits" : "misses"];
      to[0].push(x);
      if (near(w)) to[1].push(w);
    }
    const wide = (x1 - x0) * (y1 - y0), share = hits / n, estimate = wide * share;
    const error = wide * Math.sqrt((share * (1 - share)) / n), apart = (estimate - area) / error;
    const cut = outline.some(([a, b]) => a < x0 || a > x1 || b < y0 || b > y1);
    for (const [name, [x, w]] of Object.entries(shown)) plane.draw(name, plane.dots(x)), base.draw(name, base.dots(w));
    plane.draw("arm", plane.line(outline, true)), base.draw("arm", base.line(ellipse, true));
    const corners = [low, [x1, y0], high, [x0, y1]];
    const edge = corners.flatMap((a, k) => {
      const b = corners[(k + 1) % 4];
      return Array.from({ length: 48 }, (_, i) => [a[0] + (i / 48) * (b[0] - a[0]), a[1] + (i / 48) * (b[1] - a[1])]);
    });
    plane.draw("board", plane.line(corners, true)), base.draw("board", base.line(edge.map(unwarp), true));
    const away = error ? `the estimate lies ${num(Math.abs(apart), 1)} standard errors ${apart < 0 ? "below" : "above"} it.`
      : "with this share the formula gives a standard error of 0.";
    const said = (p) => `at ${pair(p)}, estimate ${num(estimate, 3)}, standard error ${num(error, 3)}`;
    return {
      numbers: { board: [[...low], [...high]], hits, board_area: wide, estimate, standard_error: error, area, cut: +cut },
      text: `${count(hits)} of ${count(n)} darts hit: a share of ${num(share, 4)}. The board's area is ${num(wide, 3)}.${n > drawn ? ` The first ${count(drawn)} darts are drawn.` : ""}\n`
        + `Estimate ${num(wide, 3)} · ${num(share, 4)} = ${num(estimate, 3)}, standard error ${num(error, 3)}.\n`
        + `The arm's true area is ${num(area, 3)}; ${away}${cut ? "\nThe board cuts the arm off." : ""}`,
      out: { n: count(n), seed: String(seed) },
      at: { low: [low, said(low)], high: [high, said(high)] },
    };
  };
  return {
    draw,
    moves: {
      low([x, y]) {
        const high = state.board[1];
        return { board: [[clamp(x, plane.x0, high[0] - smallest), clamp(y, plane.y0, high[1] - smallest)], high] };
      },
      high([x, y]) {
        const low = state.board[0];
        return { board: [low, [clamp(x, low[0] + smallest, plane.x1), clamp(y, low[1] + smallest, plane.y1)]] };
      },
    },
  };
});
