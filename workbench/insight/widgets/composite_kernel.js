// One group's mixture of dilations: alpha gives the shares, the shares one composite kernel, a stack of it a field.

// NATS, equation 3; decoded, the heaviest option alone (equation 4).
export function shares({ alpha, decoded }) {
  const top = Math.max(...alpha);
  const weights = decoded
    ? alpha.map((value, place) => Number(place === alpha.indexOf(top)))
    : alpha.map((value) => Math.exp(value - top));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight) => weight / total);
}

// The full convolution of two maps {rows, columns, values}.
export function convolve(first, second) {
  const rows = first.rows + second.rows - 1, columns = first.columns + second.columns - 1;
  const values = new Array(rows * columns).fill(0);
  second.values.forEach((weight, index) => {
    if (!weight) return;
    const down = Math.floor(index / second.columns), across = index % second.columns;
    for (let row = 0; row < first.rows; row++)
      for (let column = 0; column < first.columns; column++)
        values[(row + down) * columns + column + across] += weight * first.values[row * first.columns + column];
  });
  return { rows, columns, values };
}

// Second moment along height or width, about the mean place.
function variance({ rows, columns, values }, axis) {
  let mass = 0, mean = 0, square = 0;
  values.forEach((value, index) => {
    const place = axis ? index % columns : Math.floor(index / columns);
    mass += value;
    mean += value * place;
    square += value * place ** 2;
  });
  return square / mass - (mean / mass) ** 2;
}

export function compute(data, state) {
  const weights = shares(state), [rows, columns] = data.grid;
  const kernel = { rows, columns, values: new Array(rows * columns).fill(0) };
  data.taps.forEach((place, tap) => { // each tap of each dilated copy, where it falls on the common grid
    kernel.values[place] += weights[Math.floor(tap / data.kernel.length)] * data.kernel[tap % data.kernel.length];
  });
  const size = { rows, columns, values: kernel.values.map(Math.abs) };
  let field = size;
  for (let layer = 1; layer < state.layers; layer++) field = convolve(field, size);
  const peak = Math.max(...field.values);
  const sides = data.thresholds.map((t) => Math.sqrt(field.values.filter((value) => value > t * peak).length));
  const sigma = [0, 1].map((axis) => Math.sqrt(state.layers * variance(size, axis)));
  return { shares: weights, kernel, field, sides, sigma };
}

// A(t) over log t as a path, and beneath it that of a Gaussian of the same sigma.
function curves(svg, data, { sides, sigma }) {
  const spread = Math.sqrt(sigma[0] * sigma[1]);
  const gaussian = data.thresholds.map((t) => spread * Math.sqrt(2 * Math.PI * Math.log(1 / t)));
  const top = 1.1 * Math.max(...sides, ...gaussian), [first, last] = [data.thresholds[0], data.thresholds.at(-1)];
  const x = (t) => 40 + (Math.log(t / first) / Math.log(last / first)) * 200, y = (side) => 170 - (side / top) * 150;
  const path = (values) => values.map((value, place) => `${place ? "L" : "M"}${x(data.thresholds[place]).toFixed(1)},${y(value).toFixed(1)}`).join("");
  const marks = [0.01, 0.1, 0.5].map((t) => h("text", { x: x(t), y: 186, "text-anchor": "middle" }, `${100 * t} %`));
  const step = [1, 2, 5, 10, 20, 50].find((size) => top / size < 6) ?? 100;
  for (let side = 0; side < top; side += step)
    marks.push(h("text", { x: 34, y: y(side) + 4, "text-anchor": "end" }, String(side)));
  svg.replaceChildren(h("path", { class: "axis", d: "M40,20V170H240" }), ...marks,
    h("path", { class: "dotted", d: path(gaussian) }), h("path", { class: "curve", d: path(sides) }));
}

export function render({ model, el }) {
  const { names, thresholds } = model.get("data");
  const luo = thresholds.findIndex((t) => t >= 0.0455);
  const percent = names.map(() => h("span", { class: "quiet" }));
  const alpha = names.map((name, place) => slider(`alpha of ${name}`, { min: -4, max: 4, step: 0.1 }, (value) =>
    change(model, { alpha: model.get("state").alpha.map((old, other) => (other === place ? value : old)) }),
    (value) => Number(value).toFixed(1)));
  alpha.forEach(({ element }, place) => element.lastChild.after(percent[place]));
  alpha.forEach(({ element }) => (element.style.gridTemplateColumns = "10.5em minmax(60px, 1fr) 2em 3.4em"));
  const layers = slider("layers of the stack", { min: 1, max: 8 }, (value) => change(model, { layers: value }));
  const box = h("input", { type: "checkbox", onchange: () => change(model, { decoded: box.checked }) });
  const [kernel, field] = ["composite kernel", "field of the stack"].map((name) => h("canvas", { role: "img", "aria-label": name }));
  const svg = h("svg", { viewBox: "0 0 250 192", role: "img", "aria-label": "side of the area above a share of the peak" });
  const [kernelText, fieldText] = [h("p", {}), h("p", { "aria-live": "polite" })];

  function draw(data, state) {
    const found = compute(data, state);
    alpha.forEach(({ show }, place) => show(state.alpha[place]));
    percent.forEach((span, place) => (span.textContent = `${Math.round(100 * found.shares[place])} %`));
    layers.show(state.layers);
    box.checked = state.decoded;
    [[kernel, found.kernel], [field, found.field]].forEach(([canvas, { rows, columns, values }]) => {
      const peak = Math.max(...values.map(Math.abs));
      paint(canvas, values, rows, columns, (value) => [...viridis(Math.abs(value) / peak), 255]);
    });
    curves(svg, data, found);
    const used = found.kernel.values.filter((value) => Math.abs(value) > 1e-4).length;
    kernelText.textContent = `Composite kernel: ${found.kernel.rows} × ${found.kernel.columns}, ${used} taps above 0.0001`;
    fieldText.textContent = `Field of ${state.layers} layers: reaches ${found.field.rows} × ${found.field.columns} px, ` +
      `sigma ${found.sigma[0].toFixed(2)} × ${found.sigma[1].toFixed(2)} px, A(5 %) ${found.sides[luo].toFixed(1)} px`;
  }

  const controls = h("div", { class: "panel", style: "flex-basis: 300px" }, alpha.map(({ element }) => element), layers.element,
    h("label", {}, box, " decode: the heaviest dilation alone"));
  const panels = [[kernel, kernelText], [field, fieldText], [svg, h("p", {}, "A(t) in pixels over the share t of the peak; dotted: a Gaussian of the same sigma")]];
  const boxes = panels.map((parts) => h("div", { class: "panel small", style: "flex-basis: 190px" }, parts));
  card(model, el, "composite kernel", [h("div", { class: "row" }, controls), h("div", { class: "row" }, boxes)], draw);
}

export default { render };
