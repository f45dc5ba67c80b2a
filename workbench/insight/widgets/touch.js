// Shared by all explorables; it stands in front of each module, because a browser gets one file.

const SVG = new Set(["svg", "g", "rect", "text", "line", "path", "circle"]);

// An element with attributes, listeners (names that begin with "on") and children.
function h(tag, attributes, ...children) {
  const made = SVG.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.flat());
  return made;
}

// The model of a page without a kernel: it remembers, and tells who listens.
function offline(data, state) {
  const values = { data, state, answer: {}, live: false }, listeners = {};
  return {
    get: (name) => values[name],
    set(name, value) {
      values[name] = value;
      (listeners[`change:${name}`] ?? []).forEach((listener) => listener());
    },
    save_changes() {},
    send() {},
    on: (event, listener) => (listeners[event] ??= []).push(listener),
  };
}

// What every explorable does: a card that draws itself now, and again after each change of state or answer.
function card(model, el, label, parts, draw) {
  const mistake = h("p", { class: "mistake", role: "alert" });
  const calm = { "data-lm-suppress-shortcuts": "true" }; // JupyterLab would take arrow keys and Enter for itself
  el.append(h("section", { class: "touch", "aria-label": label, ...calm }, parts, mistake));
  const redraw = () => {
    draw(model.get("data"), model.get("state"), model.get("answer"));
    mistake.textContent = model.get("answer").error ?? "";
  };
  model.on("change:state", redraw);
  model.on("change:answer", redraw);
  redraw();
}

function change(model, part) {
  model.set("state", { ...model.get("state"), ...part });
  model.save_changes();
}

// A slider with its name and its value in words; `show(value)` moves it from outside.
function slider(name, range, changed, words = String) {
  const output = h("output", {});
  const input = h("input", { type: "range", "aria-label": name, ...range, oninput: () => changed(Number(input.value)) });
  const show = (value) => {
    input.value = value;
    output.textContent = words(value);
    input.setAttribute("aria-valuetext", words(value));
  };
  return { element: h("label", { class: "slider" }, h("span", {}, name), input, output), show };
}

function menu(name, options, changed) {
  const list = options.map(([value, text]) => h("option", { value }, text));
  const select = h("select", { "aria-label": name, onchange: () => changed(select.value) }, list);
  return { element: h("label", { class: "menu" }, h("span", {}, name), select), show: (value) => (select.value = value) };
}

// The button that asks the supernet, and the list of what it answered; nothing where there is none to ask.
function scoring(model) {
  const list = h("ol", { class: "scores", "aria-live": "polite", "aria-label": "scored by the supernet" });
  const button = h("button", { type: "button", class: "score", onclick: ask }, "Score it by the supernet");
  function ask() {
    button.disabled = true;
    model.send({ score: true });
  }
  const show = (answer) => {
    button.disabled = false;
    list.replaceChildren(...(answer.scores ?? []).map((text) => h("li", {}, text)));
  };
  return { elements: model.get("data").scorable ? [button, list] : [], show };
}

const short = (value) =>
  value >= 1e6 ? `${(value / 1e6).toFixed(2)} M` : value >= 1e3 ? `${(value / 1e3).toFixed(1)} k` : value.toFixed(1);

const VIRIDIS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];

function viridis(share) {
  const place = Math.min(Math.max(share, 0), 1) * (VIRIDIS.length - 1), low = Math.min(Math.floor(place), VIRIDIS.length - 2);
  return VIRIDIS[low].map((from, band) => from + (place - low) * (VIRIDIS[low + 1][band] - from));
}

// `colour` turns each of the values (row by row) into red, green, blue and opacity, 0 to 255.
function paint(canvas, values, rows, columns, colour) {
  Object.assign(canvas, { width: columns, height: rows });
  const image = canvas.getContext("2d").createImageData(columns, rows);
  values.forEach((value, index) => image.data.set(colour(value), 4 * index));
  canvas.getContext("2d").putImageData(image, 0, 0);
}

