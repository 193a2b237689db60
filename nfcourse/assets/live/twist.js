// A square cell, its image, and the parallelogram that the Jacobian makes of it.
live("twist", ({ state, data, planes }) => {
  const { base, image, lens } = planes, { rate, angle, radius, radial, tangential, arms } = data;
  const regions = data.regions.map((loops) => loops.map((flat) => flat.flatMap((v, i) => (i % 2 ? [] : [[v / 100, flat[i + 1] / 100]]))));
  const inflates = () => state.map === "inflate";
  const growth = (r) => (rate * r < 1e-9 ? 1 : Math.sinh(rate * r) / (rate * r));
  const map = (z) => {
    const r = Math.hypot(...z), c = Math.cos(angle * r), s = Math.sin(angle * r), g = inflates() ? growth(r) : 1;
    return [g * (c * z[0] - s * z[1]), g * (s * z[0] + c * z[1])];
  };
  // columns of the Jacobian: of the rotation by angle |z|, then of the inflation h(r) u
  const jacobian = (z) => {
    const r = Math.hypot(...z), c = Math.cos(angle * r), s = Math.sin(angle * r);
    const u = [c * z[0] - s * z[1], s * z[0] + c * z[1]];
    return [0, 1].map((k) => {
      const more = r ? (angle * z[k]) / r : 0;
      let d = k ? [-s, c] : [c, s];
      d = [d[0] - more * u[1], d[1] + more * u[0]];
      if (!inflates() || !r) return d;
      const h = growth(r), slope = (Math.cosh(rate * r) - h) / r, along = (u[0] * d[0] + u[1] * d[1]) / r;
      return [h * d[0] + slope * along * u[0], h * d[1] + slope * along * u[1]];
    });
  };
  const logBase = (z) => logSumExp(Array.from({ length: arms }, (_, k) => {
    const t = (-2 * Math.PI * k) / arms, c = Math.cos(t), s = Math.sin(t);
    return logNormal(c * z[0] - s * z[1], radius, radial) + logNormal(s * z[0] + c * z[1], 0, tangential);
  })) - Math.log(arms);
  // the square's edge, counter-clockwise, in units of its side
  const edge = (n) => [[1, 0], [0, 1], [-1, 0], [0, -1]].flatMap(([x, y]) => Array.from({ length: n }, (_, i) => {
    const t = i / n - 0.5;
    return [x * t + y / 2, y * t - x / 2];
  }));
  const weave = (f, n) => [1, 2, 3].flatMap((i) => [0, 1].map((turned) => Array.from({ length: n + 1 }, (_, j) => {
    const a = i / 4 - 0.5, b = j / n - 0.5;
    return f(turned ? [b, a] : [a, b]);
  })));
  const draw = () => {
    const z = state.cell, side = state.side, x = map(z), J = jacobian(z);
    const det = J[0][0] * J[1][1] - J[0][1] * J[1][0];
    const at = (u) => [z[0] + side * u[0], z[1] + side * u[1]];
    const near = (u) => map(at(u)).map((v, k) => (v - x[k]) / side);  // seen from x, in units of the side
    const tangent = (u) => [0, 1].map((k) => J[0][k] * u[0] + J[1][k] * u[1]);
    const polygon = (n) => {
      const p = edge(n).map(near);
      return p.reduce((sum, a, i) => { const b = p[(i + 1) % p.length]; return sum + (a[0] * b[1] - a[1] * b[0]) / 2; }, 0);
    };
    // two polygons; what is left of their error is of fourth order
    const ratio = (4 * polygon(800) - polygon(400)) / 3;
    regions.forEach((loops, k) => image.draw(`region${k}`, loops.map((l) => image.line(l.map(map), true)).join("")));
    base.draw("cell", base.line(edge(1).map(at), true));
    base.draw("weave", weave(at, 1).map((l) => base.line(l)).join(""));
    image.draw("cell", image.line(edge(24).map((u) => map(at(u))), true));
    image.draw("weave", weave((u) => map(at(u)), 24).map((l) => image.line(l)).join(""));
    const corners = edge(1).map(tangent), reach = 1.7 * Math.max(...corners.flat().map(Math.abs));
    const zoom = (p) => [p[0] / reach, p[1] / reach];
    image.draw("tangent", image.line(corners.map((p) => [x[0] + side * p[0], x[1] + side * p[1]]), true));
    lens.draw("cell", lens.line(edge(24).map((u) => zoom(near(u))), true));
    lens.draw("weave", weave((u) => zoom(near(u)), 24).map((l) => lens.line(l)).join(""));
    lens.draw("tangent", lens.line(corners.map(zoom), true));
    const logZ = logBase(z), logX = logZ - Math.log(Math.abs(det));
    const gap = Math.abs(ratio / Math.abs(det) - 1) * 100;
    return {
      numbers: { cell: [...z], side, image: x, ratio, det, log_base: logZ, log_prob: logX },
      text: `Cell of side ${num(side, 3)} at z = ${pair(z)}, image at x = ${pair(x)}.\n`
        + `Its area grows by the factor ${num(ratio, 4)}; |det J| = ${num(Math.abs(det), 4)}; they differ by ${num(gap, gap < 0.1 ? 4 : 2)} %.\n`
        + `Log-density: ${num(logZ)} at z, ${num(logX)} at x.`,
      out: { side: num(side, 3) },
      at: { cell: [z, `at ${pair(z)}, area ratio ${num(ratio, 4)}, determinant ${num(Math.abs(det), 4)}`] },
    };
  };
  return {
    draw,
    moves: {
      cell(p) {
        const r = Math.hypot(...p);
        return { cell: r > 3 ? [(3 * p[0]) / r, (3 * p[1]) / r] : p };
      },
    },
  };
});
