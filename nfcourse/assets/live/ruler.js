// A law on the line, a window on it, and the window's mass over its size by three rulers.
live("ruler", ({ state, data, planes }) => {
  const { line, chart } = planes, bell = (x) => Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);
  const widths = Array.from({ length: 133 }, (_, k) => 10 ** ((12 - k) / 40));
  // of N(0, 1): a series of positive terms
  const normal = (x) => {
    if (Math.abs(x) > 8.5) return x > 0 ? 1 : 0;
    let term = Math.abs(x), total = term, k = 1;
    while (term > 1e-18 * total) { k += 2; term *= (x * x) / k; total += term; }
    return 0.5 + Math.sign(x) * total * bell(x);
  };
  // of the Cantor law: forty ternary digits, in whole numbers
  const one = 2n ** 60n;
  const cantor = (x) => {
    if (x <= 0 || x >= 1) return x >= 1 ? 1 : 0;
    let rest = BigInt(Math.floor(x * 2 ** 60)), value = 0;
    for (let k = 1; k <= 40; k++) {
      const digit = (3n * rest) / one;
      rest = (3n * rest) % one;
      if (digit) value += 0.5 ** k;
      if (digit === 1n) break;
    }
    return value;
  };
  const cdf = (x) => {
    if (state.law === "cantor") return cantor(x);
    if (state.law === "die") return clamp(Math.floor(x), 0, 6) / 6;
    return state.law === "relu" && x < 0 ? 0 : normal(x);
  };
  const weigh = (centre, width) => {
    const [a, b] = [-1, 1].map((s) => Math.round((centre + (s * width) / 2) * 1e12) / 1e12), mass = cdf(b) - cdf(a), zero = a < 0 && 0 <= b;
    const atoms = data.laws[state.law].atoms.filter((t) => a < t && t <= b).length;
    return { mass, atoms, zero, quotients: [mass / width, atoms ? mass / atoms : null, mass / (width + zero)] };
  };
  const level = (q) => (q > 0 ? clamp(Math.log10(q), chart.y0, chart.y1) : chart.y0);
  const stairs = (x, y, w, h, depth) => (depth
    ? [...stairs(x, y, w / 3, h / 2, depth - 1), ...stairs(x + (2 * w) / 3, y + h / 2, w / 3, h / 2, depth - 1)]
    : [[x, y], [x + w, y + h]]);
  const steps = stairs(0, 0, 1, 1, 7);
  const centred = () => clamp(state.centre, ...data.laws[state.law].ends);
  const picture = (centre) => {
    const { law, width } = state, { shown, ends: [low, high], top, atoms } = data.laws[law];
    const at = (x, y) => [(x - low) / (high - low), y / top];
    let [a, b] = [-1, 1].map((s) => clamp(centre + (s * width) / 2, low, high));
    line.draw("window", line.line([at(a, 0), at(a, top), at(b, top), at(b, 0)], true));
    let curve = [], under = [];
    const along = (from, to, n) => Array.from({ length: n + 1 }, (_, k) => from + ((to - from) * k) / n).map((v) => at(v, bell(v)));
    if (law === "cantor") {
      const [c, d] = [cantor(a), cantor(b)];
      curve = [at(low, 0), ...steps.map((q) => at(...q)), at(high, 1)];
      under = [at(low, c), at(a, c), at(b, d), at(low, d)];
    } else if (law !== "die") {
      const start = law === "relu" ? 0 : low;
      curve = along(start, high, 120);
      if (b > start) {
        a = Math.max(a, start);
        under = [at(a, 0), ...along(a, b, 40), at(b, 0)];
      }
    }
    line.draw("under", line.line(under, true)), line.draw("curve", line.line(curve));
    const mass = 1 / (law === "relu" ? 2 : 6);
    line.draw("bars", atoms.map((t) => line.line([at(t, 0), at(t, mass)])).join(""));
    line.draw("tips", line.dots(atoms.map((t) => at(t, mass))));
    line.part("shown").textContent = shown;
    for (let k = 0; k < 5; k++) {
      const tick = low + ((high - low) * k) / 4;
      line.part(`tick${k}`).textContent = num(tick, Number.isInteger(tick) ? 0 : 1);
    }
    return at(centre, 0);
  };
  const draw = () => {
    const { width } = state, centre = centred(), { mass, atoms, zero, quotients } = weigh(centre, width);
    const handle = picture(centre), points = widths.filter((w) => w > width).map((w) => [Math.log10(w), weigh(centre, w).quotients]);
    points.push([Math.log10(width), quotients]);
    quotients.forEach((q, k) => {
      const runs = [[]];  // without an atom there is a gap
      for (const [x, all] of points) {
        if (all[k] === null) runs.push([]);
        else runs.at(-1).push([x, level(all[k])]);
      }
      chart.draw(`curve${k}`, runs.map((r) => chart.line(r)).join(""));
      const mark = chart.part(`now${k}`);
      mark.classList.toggle("off", q === null);
      mark.setAttribute("cx", short(chart.x(Math.log10(width)))), mark.setAttribute("cy", short(chart.y(level(q ?? 0))));
    });
    const m = sig(mass), w = sig(width), a = num(centre - width / 2, 4), b = num(centre + width / 2, 4);
    const counted = atoms ? `${m} ÷ ${atoms} = ${sig(quotients[1])}` : "–, no atom in the window";
    return {
      numbers: { centre, width, mass, atoms, by_length: quotients[0], by_count: atoms ? [quotients[1]] : [], by_both: quotients[2] },
      text: `Window (${a}, ${b}]: mass ${m}, length ${w}, atoms ${atoms}.\n`
        + `Against length, λ: ${m} ÷ ${w} = ${sig(quotients[0])}.\n`
        + `Against the count of atoms: ${counted}.\n`
        + `Against λ + δ₀: ${m} ÷ (${w} + ${+zero}) = ${sig(quotients[2])}, for 0 is ${zero ? "" : "not "}in the window.`,
      out: { width: w },
      at: { centre: [handle, `window from ${a} to ${b}, mass ${m}`] },
    };
  };
  // the centre stands on a grid, so that it meets the atoms
  const step = (x) => {
    const { ends, per } = data.laws[state.law];
    return { centre: clamp(Math.round(x * per) / per, ...ends) };
  };
  return {
    draw,
    moves: { centre([u]) { const [low, high] = data.laws[state.law].ends; return step(low + u * (high - low)); } },
    keys: { centre: ([dx, dy], times) => step(centred() + ((dx + dy) * times) / data.laws[state.law].per) },
  };
});
