// One law, two orders: in one the conditionals are normal, in the other they have two bumps.
live("autoregressive", ({ state, data, planes }) => {
  const { base, plane, slice } = planes, { loss } = data;
  const cloud = data.cloud.flatMap((v, i) => (i % 2 ? [] : [[v / 100, data.cloud[i + 1] / 100]]));
  const logP = (x) => logNormal(x[1], 0, 2) + logNormal(x[0], x[1] ** 2 / 4, 1);
  // x1 alone: its density and the variance of x2 given it, by a sum over x2 (exact for all digits shown)
  const first = (x1) => {
    const h = 0.05, grid = Array.from({ length: 681 }, (_, i) => (i - 340) * h), logs = grid.map((t) => logP([x1, t]));
    const top = Math.max(...logs), w = logs.map((l) => Math.exp(l - top)), sum = w.reduce((a, b) => a + b);
    return { log: top + Math.log(sum * h), variance: grid.reduce((s, t, i) => s + w[i] * t * t, 0) / sum };
  };
  // of a model that reads in this order: mean and deviation of each coordinate
  const heads = (order, x) => (order === "21"
    ? [[x[1] ** 2 / 4, 1], [0, 2]]
    : [[1, Math.sqrt(3)], [0, Math.sqrt(first(x[0]).variance)]]);
  const toBase = (x, order = state.order) => heads(order, x).map(([m, s], i) => (x[i] - m) / s);
  const toData = (z, order = state.order) => {
    const x = [0, 0];
    for (const i of order === "21" ? [1, 0] : [0, 1]) { const [m, s] = heads(order, x)[i]; x[i] = m + s * z[i]; }
    return x;
  };
  const logQ = (x, order) => heads(order, x).reduce((sum, [m, s], i) => sum + logNormal(x[i], m, s), 0);
  let known = {};  // the cloud moves only when the order does
  const draw = () => {
    const { x, order } = state, z = toBase(x), one = order === "12", [i, j] = one ? [0, 1] : [1, 0];
    const marginal = first(x[0]), p = logP(x);
    const chain = { 21: [logNormal(x[1], 0, 2), logNormal(x[0], x[1] ** 2 / 4, 1)], 12: [marginal.log, p - marginal.log] };
    const q = { 21: logQ(x, "21"), 12: logQ(x, "12") };
    known[order] ??= cloud.map((c) => toData(c, order));
    plane.draw("cloud", plane.dots(known[order]));
    base.draw("cloud", base.dots(cloud));
    plane.part("q12").classList.toggle("off", !one), plane.part("q21").classList.toggle("off", one);
    const low = one ? -6.5 : -4, high = one ? 6.5 : 9;
    const at = (t) => (one ? [x[0], t] : [t, x[1]]);
    plane.draw("slice", plane.line([at(low), at(high)]));
    const [m, s] = heads(order, x)[j], axis = plane.part("first"), foot = one ? [x[0], -6.5] : [-4, x[1]];
    axis.setAttribute("cx", short(plane.x(foot[0]))), axis.setAttribute("cy", short(plane.y(foot[1])));
    base.draw("steps", base.line(one ? [[z[0], -3.4], z] : [[-3.4, z[1]], z]));
    const grid = Array.from({ length: 161 }, (_, k) => low + ((high - low) * k) / 160);
    const truth = grid.map((t) => Math.exp(logP(at(t)) - chain[order][0])), model = grid.map((t) => Math.exp(logNormal(t, m, s)));
    const tall = 1.12 * Math.max(0.42, ...truth, ...model), place = (t) => (t - low) / (high - low);
    slice.draw("truth", slice.line([[0, 0], ...grid.map((t, k) => [place(t), truth[k] / tall]), [1, 0]], true));
    slice.draw("model", slice.line(grid.map((t, k) => [place(t), model[k] / tall])));
    slice.draw("probe", slice.line([[place(x[j]), 0], [place(x[j]), 1]]));
    slice.part("low").textContent = num(low, 1), slice.part("high").textContent = num(high, 1);
    slice.part("name").textContent = one ? "x₂ given x₁" : "x₁ given x₂";
    const sub = "₁₂", [a, b] = [sub[i], sub[j]];
    return {
      numbers: { x: [...x], z, log_p: p, chain_21: chain[21], chain_12: chain[12], log_q_21: q[21], log_q_12: q[12], variance: marginal.variance },
      text: `Sampling in this order: z${a} = ${num(z[i])} → x${a} = ${num(x[i])}, then z${b} = ${num(z[j])} → x${b} = ${num(x[j])}.\n`
        + `The law, in either order: log p = ${num(chain[21][0])} ${chain[21][1] < 0 ? "−" : "+"} ${num(Math.abs(chain[21][1]))} = ${num(chain[12][0])} ${chain[12][1] < 0 ? "−" : "+"} ${num(Math.abs(chain[12][1]))} = ${num(p)}.\n`
        + `The models with normal conditionals: log q = ${num(q[21])} reading x₂ first, ${num(q[12])} reading x₁ first. `
        + `On average they lose ${num(loss[0])} and ${num(loss[1])} nats.`,
      out: {},
      at: { x: [x, `x = ${pair(x)}, log p ${num(p)}, log q ${num(q[order])}`], z: [z, `z = ${pair(z)}, to x = ${pair(x)}`] },
    };
  };
  const box = (p) => [clamp(p[0], -3.8, 8.8), clamp(p[1], -6.3, 6.3)];
  return {
    draw,
    moves: { x: (p) => ({ x: box(p) }), z: (p) => ({ x: box(toData(p.map((v) => clamp(v, -3.2, 3.2)))) }) },
  };
});
