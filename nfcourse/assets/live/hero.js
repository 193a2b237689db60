// A star, twisted into a pinwheel. Points, circles, the regions of 50 and 90 % and a ringed point ride along.
live("hero", ({ state, data, planes, root, text, set }) => {
  const { stage, chart } = planes, hundredth = (flat) => {
    const points = [];
    for (let i = 0; i < flat.length; i += 2) points.push([flat[i] / 100, flat[i + 1] / 100]);
    return points;
  };
  const arms = data.arms.map(hundredth), regions = data.regions.map((loops) => loops.map(hundredth));
  const { rate, radius, radial, tangential, rim, every } = data;
  const rho = (w) => Math.hypot(w[0], w[1]);
  const turn = (w, angle) => {
    const c = Math.cos(angle), s = Math.sin(angle);
    return [c * w[0] - s * w[1], s * w[0] + c * w[1]];
  };
  const growth = (r, a) => (a * r < 1e-9 ? 1 : Math.sinh(a * r) / (a * r));
  const rateAt = (t) => (state.inflate ? rate * t : 0);
  const map = (w, t = state.strength) => {
    const r = rho(w), g = growth(r, rateAt(t)), x = turn(w, t * r);
    return [g * x[0], g * x[1]];
  };
  const back = (x) => {
    const s = rho(x), a = rateAt(state.strength), r = a * s < 1e-9 ? s : Math.asinh(a * s) / a;
    const u = turn(x, -state.strength * r);
    return s ? [(u[0] * r) / s, (u[1] * r) / s] : [0, 0];
  };
  const logDet = (w, t = state.strength) => {
    const r = rho(w), a = rateAt(t);
    return Math.log(Math.cosh(a * r)) + Math.log(growth(r, a));
  };
  const logStar = (w) => logSumExp(arms.map((_, k) => {
    const [along, across] = turn(w, (-2 * Math.PI * k) / arms.length);
    return logNormal(along, radius, radial) + logNormal(across, 0, tangential);
  })) - Math.log(arms.length);
  const arc = (w) => {
    const x = map(w), turned = state.strength * rho(w), r = short(((rho(w) + rho(x)) / 2) * (stage.x(1) - stage.x(0)));
    return `M${stage.text(w)}A${r} ${r} 0 ${turned > Math.PI ? 1 : 0} 0 ${stage.text(x)}`;
  };
  const ray = (angle) => Array.from({ length: 25 }, (_, i) => map(turn([(rim * i) / 24, 0], angle)));
  const draw = () => {
    arms.forEach((points, k) => {
      stage.draw(`arm${k}`, stage.dots(points.map((w) => map(w))));
      stage.draw(`trail${k}`, state.strength ? points.filter((_, i) => i % every === 0).map(arc).join("") : "");
    });
    regions.forEach((loops, k) => stage.draw(`region${k}`, loops.map((loop) => stage.line(loop.map((w) => map(w)), true)).join("")));
    const rays = Array.from({ length: 9 }, (_, k) => stage.line(ray((2 * Math.PI * (k + 1)) / 10)));
    const circles = [1, 2, 3, rim].map((r) => stage.line(Array.from({ length: 72 }, (_, i) => map([r * Math.cos(i * Math.PI / 36), r * Math.sin(i * Math.PI / 36)])), true));
    stage.draw("grid", rays.join("") + circles.join(""));
    stage.draw("spoke", stage.line(ray(0)));
    const w = state.w, x = map(w), star = logStar(w), det = logDet(w), value = star - det;
    const level = (t) => [t, -logDet(w, t)];
    chart.draw("naive", chart.line([[0, 0], [1, 0]]));
    chart.draw("law", chart.line(Array.from({ length: 41 }, (_, i) => level(i / 40))));
    const dot = chart.part("now"), label = chart.part("value"), at = level(state.strength);
    dot.setAttribute("cx", short(chart.x(at[0]))), dot.setAttribute("cy", short(chart.y(at[1])));
    chart.part("start").textContent = num(star);
    label.textContent = num(value);
    label.setAttribute("x", short(clamp(chart.x(at[0]), chart.left + 20, chart.right - 16)));
    label.setAttribute("y", short(chart.y(at[1]) + 22));
    chart.part("without").classList.toggle("off", !state.inflate);
    const how = state.inflate ? `|det J| = ${num(Math.exp(det), 3)} here: the density is divided by it` : "|det J| = 1 everywhere: the density has travelled unchanged";
    return {
      numbers: { strength: state.strength, w: [...w], x, log_star: star, log_det: det, log_prob: value },
      text: `Twist ${num(state.strength)}. The ringed point is at ${pair(x)}.\nIts log-density: ${num(star)} in the star, ${num(value)} here. ${how}.`,
      out: { strength: num(state.strength) },
      at: {
        rim: [map([rim, 0]), `twist ${num(state.strength)}`],
        probe: [x, `at ${pair(x)}, log-density ${num(value)}`],
      },
    };
  };
  let frame = null;
  const button = root.querySelector('[data-do="play"]');
  const stop = () => {
    cancelAnimationFrame(frame);
    frame = null;
    button.textContent = "Play";
    text.setAttribute("aria-live", "polite");
  };
  const play = (seconds = 4.5) => {
    let begin = null;
    text.setAttribute("aria-live", "off");  // nobody wants sixty sentences a second
    button.textContent = "Stop";
    const step = (now) => {
      if (!root.isConnected) return stop();
      begin ??= now;
      const part = clamp((now - begin) / (1000 * seconds), 0, 1);
      if (part >= 1) stop();
      set({ strength: part * part * (3 - 2 * part) });
      if (part < 1) frame = requestAnimationFrame(step);
    };
    set({ strength: 0 });
    frame = requestAnimationFrame(step);
  };
  const end = () => { if (frame !== null) { stop(); set({ strength: 1 }); } };
  addEventListener("beforeprint", end);
  return {
    draw, stop,
    start() {
      const calm = matchMedia("(prefers-reduced-motion: reduce)").matches || matchMedia("print").matches;
      if (root.dataset.play !== undefined && !calm) play();
    },
    actions: { play: () => (frame === null ? play() : end()) },
    moves: {
      rim([x, y]) {  // the rim turns by strength times rim: the nearest way round
        const now = state.strength * rim, gap = Math.atan2(y, x) - now;
        const angle = now + gap - 2 * Math.PI * Math.round(gap / (2 * Math.PI));
        return { strength: clamp(angle / rim, 0, 1) };
      },
      probe(p) {
        const w = back(p), r = rho(w);
        return { w: r > rim ? [(w[0] * rim) / r, (w[1] * rim) / r] : w };
      },
    },
    keys: { rim: ([dx, dy], times) => ({ strength: clamp(state.strength + 0.02 * times * (dx + dy), 0, 1) }) },
  };
});
