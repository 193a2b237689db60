// A coupling layer in the plane: one half passes and decides how much of the reader's spline the other half gets.
live("coupling", ({ state, data, planes }) => {
  const { base, spline, plane } = planes, { bound, min_bin, min_derivative } = data, K = 3;
  const offset = Math.log(Math.expm1(1 - min_derivative));
  const cloud = data.cloud.flatMap((v, i) => (i % 2 ? [] : [[v / 100, data.cloud[i + 1] / 100]]));
  // circles that hold 90 and 50 % of the base's mass
  const rings = [0.9, 0.5].map((mass) => Array.from({ length: 60 }, (_, k) => {
    const r = Math.sqrt(-2 * Math.log(1 - mass)), t = (2 * Math.PI * k) / 60;
    return [r * Math.cos(t), r * Math.sin(t)];
  }));
  const gate = (a) => 1 / (1 + Math.exp(-2 * a));
  // what the conditioner returns where the gate is open: K logits of widths, K of heights, K - 1 raw slopes
  const raw = () => {
    const logits = (side) => {
      const ends = [-bound, ...state.knots.map((k) => k[side]), bound];
      return ends.slice(1).map((e, k) => Math.log(((e - ends[k]) / (2 * bound) - min_bin) / (1 - min_bin * K)));
    };
    return [...logits(0), ...logits(1), ...state.slopes.map((d) => Math.log(Math.expm1(d - min_derivative)) - offset)];
  };
  // knots and slopes from parameters, as nfcourse.RQSTransformer makes them
  const curve = (params) => {
    const knots = [0, K].map((from) => {
      const e = params.slice(from, from + K).map(Math.exp), sum = e.reduce((a, b) => a + b), out = [-bound];
      for (let k = 0; k < K - 1; k++) out.push(out[k] + 2 * bound * (min_bin + ((1 - min_bin * K) * e[k]) / sum));
      return [...out, bound];
    });
    const softplus = (v) => Math.max(v, 0) + Math.log1p(Math.exp(-Math.abs(v)));
    return { xs: knots[0], zs: knots[1], ds: [1, ...params.slice(2 * K).map((r) => softplus(r + offset) + min_derivative), 1] };
  };
  const bin = (knots, v) => knots.slice(1, -1).filter((k) => v >= k).length;
  const piece = (c, k, u, v) => {
    const w = c.xs[k + 1] - c.xs[k], h = c.zs[k + 1] - c.zs[k], s = h / w;
    const n = u * (s * u + c.ds[k] * v), total = n + v * (s * v + c.ds[k + 1] * u);
    return [c.zs[k] + (h * n) / total, Math.log((c.ds[k + 1] * u * u + 2 * s * u * v + c.ds[k] * v * v) * (h / total) ** 2)];
  };
  const S = (c, x) => {  // data to base
    if (Math.abs(x) >= bound) return [x, 0];
    const k = bin(c.xs, x);
    return piece(c, k, x - c.xs[k], c.xs[k + 1] - x);
  };
  const T = (c, z) => {  // base to data: the root of a quadratic, without cancellation
    if (Math.abs(z) >= bound) return [z, 0];
    const k = bin(c.zs, z), p = z - c.zs[k], q = c.zs[k + 1] - z, w = c.xs[k + 1] - c.xs[k], s = (p + q) / w;
    const beta = c.ds[k + 1] * p - c.ds[k] * q, root = Math.sqrt(beta * beta + 4 * s * s * p * q);
    const [u, v] = beta >= 0 ? [beta + root, 2 * s * q] : [2 * s * p, root - beta];
    const [a, b] = [(w * u) / (u + v), (w * v) / (u + v)];
    return [c.xs[k] + a, -piece(c, k, a, b)[1]];
  };
  const at = (a, theta = raw()) => curve(theta.map((t) => gate(a) * t));
  const split = (p) => (state.passes === 1 ? [p[0], p[1]] : [p[1], p[0]]);  // what passes, what moves
  const draw = () => {
    const theta = raw(), full = curve(theta), [a, b] = split(state.x), here = at(a, theta);
    const [zb, logDz] = S(here, b), z = split([a, zb]), [again, logDx] = T(here, zb);
    const m = 3 - state.passes, i = state.passes;
    const steps = Array.from({ length: 33 }, (_, k) => -3.4 + (6.8 * k) / 32), curves = steps.map((t) => at(t, theta));
    const levels = Array.from({ length: 13 }, (_, k) => (k - 6) / 2);
    base.draw("grid", levels.flatMap((l) => [[[l, -3.4], [l, 3.4]], [[-3.4, l], [3.4, l]]]).map((l) => base.line(l)).join(""));
    plane.draw("grid", levels.map((l) => plane.line(steps.map((t, k) => split([t, T(curves[k], l)[0]]))) + plane.line([split([l, -3.4]), split([l, 3.4])])).join(""));
    const push = (p) => { const [s, t] = split(p); return split([s, T(at(s, theta), t)[0]]); };
    rings.forEach((ring, k) => plane.draw(`region${k}`, plane.line(ring.map(push), true)));
    base.draw("cloud", base.dots(cloud));
    plane.draw("cloud", plane.dots(cloud.map(push)));
    base.draw("column", base.line([split([a, -3.4]), split([a, 3.4])]));
    plane.draw("column", plane.line([split([a, -3.4]), split([a, 3.4])]));
    const fine = Array.from({ length: 121 }, (_, k) => -3.4 + (6.8 * k) / 120);
    spline.draw("full", spline.line(fine.map((x) => [x, S(full, x)[0]])));
    spline.draw("here", spline.line(fine.map((x) => [x, S(here, x)[0]])));
    spline.draw("slope", spline.line([[-3.4, -5.2], ...fine.map((x) => [x, -5.2 + 0.45 * Math.min(3.4, Math.exp(S(here, x)[1]))]), [3.4, -5.2]], true));
    spline.draw("probe", spline.line([[b, -5.2], [b, zb], [-3.4, zb]]));
    spline.part("dot").setAttribute("cx", short(spline.x(b))), spline.part("dot").setAttribute("cy", short(spline.y(zb)));
    spline.part("across").textContent = m === 2 ? "x₂" : "x₁", spline.part("up").textContent = m === 2 ? "z₂" : "z₁";
    const tip = (k) => {
      const d = state.slopes[k], r = 0.85 / Math.hypot(1, d);
      return [state.knots[k][0] + r, state.knots[k][1] + d * r];
    };
    spline.draw("whiskers", [0, 1].map((k) => spline.line([state.knots[k], tip(k)])).join(""));
    const logProb = logNormal(z[0]) + logNormal(z[1]) + logDz;
    const sub = "₁₂";
    return {
      numbers: { theta, gate: gate(a), x: [...state.x], z, back: again, log_dz_dx: logDz, log_dx_dz: logDx, log_prob: logProb },
      text: `x${sub[i - 1]} = ${num(a)} passes and opens the gate to ${num(gate(a))}.\n`
        + `Data to base: x${sub[m - 1]} = ${num(b)} → z${sub[m - 1]} = ${num(zb)}, log-derivative ${num(logDz, 3)}. `
        + `Base to data: z${sub[m - 1]} = ${num(zb)} → x${sub[m - 1]} = ${num(again)}, log-derivative ${num(logDx, 3)}.\n`
        + `log p(x) = ${num(logNormal(z[0]) + logNormal(z[1]), 3)} ${logDz < 0 ? "−" : "+"} ${num(Math.abs(logDz), 3)} = ${num(logProb, 3)}.`,
      out: {},
      at: {
        z: [z, `z = ${pair(z)}, log-derivative to data ${num(logDx, 3)}`],
        x: [state.x, `x = ${pair(state.x)}, log-density ${num(logProb, 3)}`],
        knot0: [state.knots[0], `data ${num(state.knots[0][0])}, base ${num(state.knots[0][1])}`],
        knot1: [state.knots[1], `data ${num(state.knots[1][0])}, base ${num(state.knots[1][1])}`],
        slope0: [tip(0), `slope ${num(state.slopes[0])}`],
        slope1: [tip(1), `slope ${num(state.slopes[1])}`],
      },
    };
  };
  const inside = (p) => p.map((v) => clamp(v, -3.3, 3.3));
  const gap = 0.15;
  const knot = (k) => (p) => {
    const other = state.knots[1 - k], knots = [...state.knots];
    knots[k] = p.map((v, j) => (k ? clamp(v, other[j] + gap, bound - gap) : clamp(v, gap - bound, other[j] - gap)));
    return { knots };
  };
  const slope = (k) => (p) => {
    const slopes = [...state.slopes], [dx, dy] = [p[0] - state.knots[k][0], p[1] - state.knots[k][1]];
    slopes[k] = clamp(Math.max(dy, 0) / Math.max(dx, 1e-3), 0.05, 20);
    return { slopes };
  };
  const steeper = (k) => ([dx, dy], times) => {
    const slopes = [...state.slopes];
    slopes[k] = clamp(slopes[k] * 1.05 ** ((dx + dy) * times), 0.05, 20);
    return { slopes };
  };
  return {
    draw,
    moves: {
      x: (p) => ({ x: inside(p) }),
      z(p) { const [a, b] = split(inside(p)); return { x: split([a, T(at(a), b)[0]]) }; },
      knot0: knot(0), knot1: knot(1), slope0: slope(0), slope1: slope(1),
    },
    keys: { slope0: steeper(0), slope1: steeper(1) },
  };
});
