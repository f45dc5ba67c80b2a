// Two networks over one image: the measured field of the unit under the finger, its anchor, and the predicted sigma.

// Standard deviation (height, width) behind a level, after the changes of the sliders: the sum over layers.
export function predict({ blocks, taps }, level, changes) {
  const residual = 1 - changes.shortcut, stage = blocks[taps[level]].stage, total = [0, 0];
  let step = 1;
  blocks.slice(0, taps[level] + 1).forEach((block, index) => {
    const first = index === 0 && changes.stride ? changes.stride : 0;
    const [main, other] = block.chains.map((chain) => spread(chain, step, first, changes, block.stage === stage));
    total.forEach((_, axis) => (total[axis] += other ? residual * main[axis] + (1 - residual) * other[axis] : main[axis]));
    step *= first || block.stride;
  });
  return total.map(Math.sqrt);
}

// (k^2 - 1) / 12 (d J)^2 for every layer of a chain, along both axes.
function spread(chain, step, first, changes, dilates) {
  const found = [0, 0];
  for (const [built, high, wide, stride, searched] of chain) {
    const kernel = searched && changes.kernel ? changes.kernel : built;
    const squares = searched && changes.dilation && dilates ? [changes.dilation ** 2, changes.dilation ** 2] : [high, wide];
    squares.forEach((square, axis) => (found[axis] += ((kernel ** 2 - 1) / 12) * square * step ** 2));
    step *= first || stride;
  }
  return found;
}

// The stored field whose unit is nearest to a pixel; where none is stored what Python answered, if it is of this unit.
export function lookup(data, answer, state, pane, size = data.size) {
  const { network, level } = state.panes[pane], name = `${network}|${level}`, stored = data.fields[name];
  if (!stored?.length) {
    const found = answer.fields?.[pane], unit = nearest(state.unit, data.networks[network].levels[level].stride, size);
    return found?.of === name && String(found.unit) === String(unit) ? found : undefined;
  }
  const distance = ({ unit }) => (unit[0] - state.unit[0]) ** 2 + (unit[1] - state.unit[1]) ** 2;
  return stored.reduce((best, record) => (distance(record) < distance(best) ? record : best));
}

// The pixel of the unit of a map that is nearest to a pixel.
export function nearest(pixels, stride, size) {
  return pixels.map((pixel, axis) => stride * Math.min(Math.floor(pixel / stride + 0.5), Math.ceil(size[axis] / stride) - 1));
}

export const decoded = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

export function render({ model, el }) {
  const data = model.get("data"), image = new Image(), layer = document.createElement("canvas");
  const names = Object.keys(data.networks);
  let pending; // a drag sends its last place, not each of them
  const state = () => model.get("state");
  const size = () => model.get("answer").size ?? data.size;

  function place(row, column) {
    const [height, width] = size();
    const unit = [Math.min(Math.max(row, 0), height - 1), Math.min(Math.max(column, 0), width - 1)].map(Math.round);
    clearTimeout(pending);
    model.set("state", { ...state(), unit });
    pending = setTimeout(() => model.save_changes(), 60);
  }
  const set = (pane, part) => {
    const panes = state().panes.map((old, index) => (index === pane ? { ...old, ...part } : old));
    panes[pane].level = Math.min(panes[pane].level, data.networks[panes[pane].network].levels.length - 1);
    change(model, { panes });
  };

  function pane(index) {
    const point = (event) => {
      const box = canvas.getBoundingClientRect(), [height, width] = size();
      place(((event.clientY - box.top) / box.height) * height, ((event.clientX - box.left) / box.width) * width);
    };
    const canvas = h("canvas", {
      role: "img", style: "cursor: crosshair; touch-action: pan-y; image-rendering: auto",
      onpointerdown(event) { canvas.setPointerCapture(event.pointerId); point(event); },
      onpointermove(event) { if (event.buttons) point(event); },
    });
    const network = menu(`Network ${index + 1}`, names.map((name) => [name, name]), (name) => set(index, { network: name }));
    const levels = h("select", { "aria-label": `Map of network ${index + 1}`, onchange: () => set(index, { level: Number(levels.value) }) });
    const text = h("p", { "aria-live": "polite" });
    return { canvas, network, levels, text, element: h("div", { class: "panel" }, network.element, levels, canvas, text) };
  }
  const panes = [pane(0), pane(1)];

  const rows = slider("row of the unit", { min: 0, max: data.size[0] - 1 }, (row) => place(row, state().unit[1]), (n) => `${n} px`);
  const columns = slider("column of the unit", { min: 0, max: data.size[1] - 1 }, (column) => place(state().unit[0], column), (n) => `${n} px`);
  const altered = (part) => change(model, { change: { ...state().change, ...part } });
  const where = { kernel: "kernel", dilation: "dilation, last stage", stride: "first stride" };
  const sliders = Object.entries(data.choices).map(([name, values]) => {
    const words = (at) => (Number(at) ? String(values[at]) : "as built");
    return [name, slider(where[name], { min: 0, max: values.length - 1 }, (at) => altered({ [name]: values[at] }), words)];
  });
  const shortcut = slider("share of shortcut", { min: 0, max: 1, step: 0.05 }, (share) => altered({ shortcut: share }), (n) => Number(n).toFixed(2));
  const file = h("input", { type: "text", "aria-label": "image file", placeholder: "an image file of your own" });
  const read = h("button", { type: "button", onclick: () => change(model, { image: file.value.trim() }) }, "read it");

  function draw(_data, now, answer) {
    const url = (now.image && answer.image) || data.image;
    if (image.src !== url) image.src = url;
    rows.show(now.unit[0]);
    columns.show(now.unit[1]);
    for (const [name, control] of sliders) control.show(data.choices[name].indexOf(now.change[name]));
    shortcut.show(now.change.shortcut);
    if (document.activeElement !== file) file.value = now.image;
    panes.forEach((part, index) => {
      const { network, level } = now.panes[index], known = data.networks[network], { stride, anchor } = known.levels[level];
      part.network.show(network);
      part.levels.replaceChildren(...known.levels.map((each, at) => h("option", { value: at }, `map at stride ${each.stride}`)));
      part.levels.value = level;
      const record = lookup(data, answer, now, index, size());
      const sigma = predict(known, level, now.change);
      const unit = record ? record.unit : nearest(now.unit, stride, size());
      overlay(part.canvas, record, unit, anchor, sigma);
      const measured = record ? `sigma ${record.sigma[0].toFixed(1)} px${record.cut ? " (cut by the image)" : ""}, ${Math.round(100 * record.inside)} % within the anchor of ${anchor} px; ` : "no field yet; ";
      part.text.textContent = `Unit at row ${unit[0]}, column ${unit[1]}: ${measured}predicted sigma ${sigma[0].toFixed(1)} px`;
      part.canvas.setAttribute("aria-label", `${network}: ${part.text.textContent}`);
    });
  }

  function overlay(canvas, record, [row, column], anchor, sigma) {
    const [height, width] = size(), pen = canvas.getContext("2d"), zoom = 640 / Math.max(height, width);
    Object.assign(canvas, { width: zoom * width, height: zoom * height });
    pen.scale(zoom, zoom);
    if (image.complete && image.naturalWidth) pen.drawImage(image, 0, 0, width, height);
    pen.fillStyle = "rgba(0, 0, 0, 0.35)";
    pen.fillRect(0, 0, width, height);
    if (record) {
      paint(layer, decoded(record.map), ...record.shape, (root) => [...viridis(root / 255), 220 * Math.min(1, root / 128)]);
      pen.drawImage(layer, 0, 0, width, height);
    }
    for (const [colour, thick] of [["black", 6], ["white", 2.5]]) { // seen on any image
      Object.assign(pen, { strokeStyle: colour, lineWidth: thick / zoom });
      pen.setLineDash([]);
      pen.strokeRect(column + 0.5 - anchor / 2, row + 0.5 - anchor / 2, anchor, anchor);
      pen.beginPath();
      pen.arc(column + 0.5, row + 0.5, 6 / zoom, 0, 7);
      pen.stroke();
      pen.setLineDash([11 / zoom, 9 / zoom]);
      pen.beginPath();
      pen.ellipse(column + 0.5, row + 0.5, 2 * sigma[1], 2 * sigma[0], 0, 0, 7);
      pen.stroke();
    }
  }

  image.onload = () => draw(data, state(), model.get("answer"));
  const stored = Object.keys(data.fields).length > 0;
  const hint = "Click a unit. Colour: how much each pixel moves it (root of the share of the peak); square: the anchor; dashed: two predicted sigma. The sliders below change the prediction, not the measured field." +
    (stored ? " This page holds the fields of some units; the nearest of them is shown." : "");
  const left = h("div", { class: "panel" }, rows.element, columns.element, stored ? [] : h("div", { class: "row" }, file, read));
  const right = h("div", { class: "panel" }, sliders.map(([, control]) => control.element), shortcut.element);
  card(model, el, "field probe", [h("p", { class: "quiet" }, hint), h("div", { class: "row" }, panes.map((part) => part.element)), h("div", { class: "row" }, left, right)], draw);
}

export default { render };
