// What all figures to drag share: numbers as text, a plane with its scale, handles, controls. No globals.
const clamp = (v, low, high) => Math.min(high, Math.max(low, v));
const LOG_TAU = Math.log(2 * Math.PI);
const logNormal = (v, mean = 0, std = 1) => -0.5 * ((v - mean) / std) ** 2 - Math.log(std) - 0.5 * LOG_TAU;
const logSumExp = (values) => {
  const top = Math.max(...values);
  return top === -Infinity ? top : top + Math.log(values.reduce((sum, v) => sum + Math.exp(v - top), 0));
};
// Fixed decimals, a true minus, no minus before zero.
const num = (v, digits = 2) => {
  const text = v.toFixed(digits);
  return (+text === 0 ? text.replace("-", "") : text).replace("-", "−").replace("Infinity", "∞");
};
// Four digits that count, never in powers of ten.
const sig = (v) => {
  let digits = 3, size = Math.abs(v);
  while (size > 0 && size < 1 && digits < 9) { digits++; size *= 10; }
  while (size >= 10 && digits > 0) { digits--; size /= 10; }
  return num(v, digits);
};
const count = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, ",");
const pair = (p, digits = 2) => `(${num(p[0], digits)}, ${num(p[1], digits)})`;
const short = (v) => String(+v.toFixed(1));

// A panel: its SVG, and the way between its coordinates and pixels.
class Plane {
  constructor(svg) {
    this.svg = svg;
    const [x0, x1, y0, y1, left, right, bottom, top] = svg.dataset.box.split(" ").map(Number);
    Object.assign(this, { x0, x1, y0, y1, left, right, bottom, top });
  }
  x(v) { return this.left + ((v - this.x0) / (this.x1 - this.x0)) * (this.right - this.left); }
  y(v) { return this.bottom + ((v - this.y0) / (this.y1 - this.y0)) * (this.top - this.bottom); }
  text(p) { return `${short(clamp(this.x(p[0]), -2e3, 2e3))} ${short(clamp(this.y(p[1]), -2e3, 2e3))}`; }
  line(points, close = false) { return points.length ? "M" + points.map((p) => this.text(p)).join(" ") + (close ? "Z" : "") : ""; }
  dots(points) { return points.map((p) => `M${this.text(p)}h0`).join(""); }
  part(name) { return this.svg.querySelector(`[data-part="${name}"]`); }
  draw(name, d) { this.part(name).setAttribute("d", d); }
  world(event) {
    const u = new DOMPoint(event.clientX, event.clientY).matrixTransform(this.svg.getScreenCTM().inverse());
    return [
      this.x0 + ((u.x - this.left) / (this.right - this.left)) * (this.x1 - this.x0),
      this.y0 + ((u.y - this.bottom) / (this.top - this.bottom)) * (this.y1 - this.y0),
    ];
  }
}

const choices = (input) => input.dataset.choices.split(" ").map(Number);

// build({state, data, planes, root, set}) gives draw() -> {numbers, text, at, out} and moves: {handle: (point) -> changes}.
const mount = (root, build) => {
  const { state: first, data } = JSON.parse(root.dataset.nf);
  const state = structuredClone(first), planes = {}, where = {};
  root.querySelectorAll("svg[data-plane]").forEach((svg) => { planes[svg.dataset.plane] = new Plane(svg); });
  const text = root.querySelector(".nf-live-text"), inputs = [...root.querySelectorAll("[data-key]")];
  let numbers;
  const set = (changes) => {
    for (const key of Object.keys(changes)) if (!(key in first)) throw new Error(`no parameter ${key}`);
    Object.assign(state, changes);
    const shown = figure.draw();
    numbers = shown.numbers;
    if (text.textContent !== shown.text) text.textContent = shown.text;
    for (const input of inputs) {
      const value = state[input.dataset.key];
      if (input.type === "radio") input.checked = input.value === String(value);
      else if (input.type === "checkbox") input.checked = value;
      else {
        const at = input.dataset.choices ? choices(input).indexOf(value) : input.dataset.log === undefined ? value : Math.log10(value);
        if (Math.abs(input.value - at) > input.step / 2) input.value = at;
        input.setAttribute("aria-valuetext", shown.out[input.dataset.key]);
      }
    }
    root.querySelectorAll("output").forEach((o) => { o.value = shown.out[o.dataset.out]; });
    for (const [name, [p, spoken]] of Object.entries(shown.at)) {
      const handle = root.querySelector(`[data-handle="${name}"]`), plane = planes[handle.closest("svg").dataset.plane];
      where[name] = p;
      handle.setAttribute("transform", `translate(${plane.text(p)})`);
      handle.setAttribute("aria-valuetext", spoken);
      handle.setAttribute("aria-valuenow", short(clamp(p[0], plane.x0, plane.x1)));
    }
  };
  const figure = build({ state, data, planes, root, text, set });
  root.querySelectorAll("[data-handle]").forEach((handle) => {
    const name = handle.dataset.handle, plane = planes[handle.closest("svg").dataset.plane];
    const attributes = { tabindex: 0, role: "slider", "aria-label": handle.dataset.label, "aria-valuemin": plane.x0,
      "aria-valuemax": plane.x1, "data-lm-suppress-shortcuts": "true" };
    for (const [key, value] of Object.entries(attributes)) handle.setAttribute(key, value);
    let offset = null;
    const to = (p) => { figure.stop?.(); set(figure.moves[name](p)); };
    // of handles that cover each other the nearest is meant
    const nearest = (event) => [...plane.svg.querySelectorAll("[data-handle]")].map((h) => {
      const r = h.querySelector(".hit").getBoundingClientRect();
      return [Math.hypot(r.x + r.width / 2 - event.clientX, r.y + r.height / 2 - event.clientY), h];
    }).reduce((a, b) => (b[0] < a[0] ? b : a))[1];
    handle.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      const meant = nearest(event);
      if (meant !== handle) {
        meant.dispatchEvent(new PointerEvent("pointerdown", event));
        event.preventDefault();
        return;
      }
      const p = plane.world(event);
      offset = [where[name][0] - p[0], where[name][1] - p[1]];  // a handle does not jump to the finger
      handle.setPointerCapture(event.pointerId);
      handle.focus({ preventScroll: true });
      event.preventDefault();
    });
    handle.addEventListener("pointermove", (event) => {
      if (!offset) return;
      const p = plane.world(event);
      to([p[0] + offset[0], p[1] + offset[1]]);
    });
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) handle.addEventListener(end, () => { offset = null; });
    handle.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });
    handle.addEventListener("keydown", (event) => {
      const by = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      if (!by || event.altKey || event.ctrlKey || event.metaKey) return;
      const step = ((plane.x1 - plane.x0) / 100) * (event.shiftKey ? 10 : 1);
      if (figure.keys?.[name]) { figure.stop?.(); set(figure.keys[name](by, event.shiftKey ? 10 : 1)); }
      else to([where[name][0] + by[0] * step, where[name][1] + by[1] * step]);
      event.preventDefault();
      event.stopPropagation();  // the theme turns pages with the arrows
    });
  });
  // two copies on a page: radio buttons of one name are one group
  const group = `nf-live-${(mount.count = (mount.count ?? 0) + 1)}-${Math.random().toString(36).slice(2)}`;
  for (const input of inputs) {
    if (input.type === "radio") input.name = `${group}-${input.dataset.key}`;
    input.addEventListener("input", () => {
      figure.stop?.();
      const key = input.dataset.key, value = input.type === "checkbox" ? input.checked
        : typeof first[key] === "string" ? input.value : input.dataset.choices ? choices(input)[input.value] : input.dataset.log === undefined ? +input.value : 10 ** input.value;
      set({ [key]: value });
    });
  }
  root.querySelectorAll("[data-do]").forEach((button) => button.addEventListener("click", () => {
    if (button.dataset.do !== "reset") return figure.actions[button.dataset.do]();
    figure.stop?.();
    set(structuredClone(first));
  }));
  root.dataset.ready = "";
  root.nfLive = { set, numbers: () => structuredClone(numbers) };
  set({});
  figure.start?.();
};

// Found by class: several on a page, or a second view of one output, work. JupyterLab may run a script before its
// element is on the page: hence the later rounds.
const live = (name, build) => {
  const prepare = () => document.querySelectorAll(`.nf-live-${name}:not([data-ready])`).forEach((root) => {
    if (root.querySelector("script")) mount(root, build);  // else it is still being read
  });
  prepare();
  requestAnimationFrame(prepare);
  setTimeout(prepare, 500);
};
