// Blocks on a desk: drag one from stage to stage (or use the arrow keys) while their nominal cost stays what it is.

// Params, MACs and variance are sums over blocks; further blocks of a stage are all alike.
export function compute(data, depths) {
  const found = { params: data.base.params, macs: data.base.macs, cost: 0, sigma: [] };
  const variance = [...data.base.variance];
  data.stages.forEach(({ more, cost }, place) => {
    const further = depths[place] - 1;
    found.params += further * more.params;
    found.macs += further * more.macs;
    found.cost += depths[place] * cost;
    for (let behind = place; behind < variance.length; behind++) variance[behind] += further * more.variance;
  });
  found.sigma = variance.map(Math.sqrt);
  return found;
}

// The depths after one block went from a stage to another; unchanged where it was the last of its stage.
export function moved(depths, from, to) {
  if (from === to || depths[from] <= 1 || !(to in depths)) return depths;
  return depths.map((depth, place) => depth - (place === from) + (place === to));
}

export function remarks(data, depths, cost) {
  const off = data.stages.filter(({ options }, place) => !options.includes(depths[place]));
  const found = off.map(({ number, options }) => `stage ${number} is off the grid of the search (${options.join(", ")})`);
  if (Math.abs(cost - data.budget) > 1e-9) found.push(`nominal cost ${cost}, the budget is ${data.budget}`);
  return found;
}

export function render({ model, el }) {
  const { stages } = model.get("data");
  const depths = () => model.get("state").depths;
  let focus = null; // [stage, block] that had the focus when it was moved
  const move = (from, to) => {
    const after = moved(depths(), from, to);
    if (after === depths()) return;
    focus = [to, after[to] - 1];
    change(model, { depths: after });
  };

  const towers = stages.map(({ number }) => h("div", { class: "blocks", role: "group", "aria-label": `stage ${number}` }));
  const columns = towers.map((tower, place) =>
    h("div", { class: "stage", style: "flex: 1 1 60px" }, h("span", {}, `stage ${stages[place].number}`), tower));
  const stageAt = (x) => columns.findIndex((column) => {
    const box = column.getBoundingClientRect();
    return x >= box.left && x <= box.right;
  });

  function block(place, index) {
    let start = null;
    const made = h("button", {
      type: "button", class: "block", style: "background:var(--accent);touch-action:none;display:inline-block",
      "aria-label": `block ${index + 1} of stage ${stages[place].number}; the arrow keys move it`,
      onkeydown(event) {
        const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
        if (step) {
          event.preventDefault();
          move(place, place + step);
        }
      },
      onpointerdown(event) {
        start = [event.clientX, event.clientY];
        made.setPointerCapture(event.pointerId);
      },
      onpointermove(event) {
        if (!start) return;
        made.style.transform = `translate(${event.clientX - start[0]}px, ${event.clientY - start[1]}px)`;
        columns.forEach((column, other) => (column.style.background = other === stageAt(event.clientX) ? "var(--raised)" : ""));
      },
      onpointerup(event) {
        const to = stageAt(event.clientX);
        drop();
        if (to >= 0) move(place, to);
      },
      onpointercancel: drop,
    });
    function drop() {
      start = null;
      made.style.transform = "";
      columns.forEach((column) => (column.style.background = ""));
    }
    return made;
  }

  const start = menu("Start from", [["", "your own"], ...Object.keys(model.get("data").starts).map((name) => [name, name])], (name) => {
    if (name) change(model, { depths: model.get("data").starts[name] });
  });
  const table = h("table", {});
  const [totals, known, notes] = [0, 1, 2].map(() => h("p", { "aria-live": "polite" }));
  const score = scoring(model);

  function draw(data, state, answer) {
    const found = compute(data, state.depths);
    towers.forEach((tower, place) =>
      tower.replaceChildren(...Array.from({ length: state.depths[place] }, (_, index) => block(place, index))));
    if (focus) towers[focus[0]].children[focus[1]]?.focus();
    focus = null;
    const named = Object.keys(data.starts).find((name) => String(data.starts[name]) === String(state.depths));
    start.show(named ?? "");
    const rows = stages.map(({ number, more }, place) => h("tr", {}, h("th", { scope: "row" }, `stage ${number}`),
      ...[state.depths[place], short(more.params), `${found.sigma[place].toFixed(1)} px`].map((text) => h("td", {}, String(text))),
      h("td", {}, h("meter", { max: data.image_side, value: 4.41 * found.sigma[place], "aria-label": `field of stage ${number} over the image` }))));
    const heads = ["", "blocks", "params of one more", "sigma", `A(5 %) over ${data.image_side} px`];
    table.replaceChildren(h("tr", {}, heads.map((text) => h("th", { scope: "col", class: "quiet" }, text))), ...rows);
    const blocks = state.depths.reduce((sum, depth) => sum + depth, 0);
    totals.textContent = `${blocks} blocks: ${short(found.params)} params, ${short(found.macs)} MACs`;
    const scores = answer.known ?? data.known;
    known.textContent = scores[state.depths.join(".")] ?? "No score of this allocation is stored.";
    notes.textContent = remarks(data, state.depths, found.cost).join("; ");
    notes.className = notes.textContent ? "over" : "within";
    score.show(answer);
  }

  const hint = h("p", { class: "quiet" }, "Drag a block to another stage, or focus it and press ← or →.");
  const parts = [h("div", { class: "row" }, start.element), hint, h("div", { class: "row", style: "flex-wrap: nowrap; gap: 6px" }, columns),
    totals, notes, table, known, h("div", {}, score.elements)];
  card(model, el, "allocation desk", parts, draw);
}

export default { render };
