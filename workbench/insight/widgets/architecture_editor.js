// A network as a strip of blocks: click one, choose its option; numbers and colours follow.

// For each stage the places of its decisions.
export function stages(decisions) {
  const found = new Map();
  decisions.forEach(({ stage }, place) => found.set(stage, [...(found.get(stage) ?? []), place]));
  return [...found];
}

export function named(presets, choices) {
  return Object.keys(presets).find((name) => String(presets[name]) === String(choices)) ?? "";
}

export function render({ model, el }) {
  const { decisions, looks, presets } = model.get("data");
  let open = 0; // the decision that is being edited
  const choices = () => model.get("state").choices;
  const choose = (option) => change(model, { choices: choices().map((old, place) => (place === open ? option : old)) });
  const edit = (place) => {
    open = place;
    draw(model.get("data"), model.get("state"), model.get("answer"));
  };

  const start = menu("Network", [["", "your own"], ...Object.keys(presets).map((name) => [name, name])], (name) => {
    if (name) change(model, { choices: presets[name] });
  });
  const blocks = decisions.map((decision, place) =>
    h("button", { type: "button", class: "block", onclick: () => edit(place) }));
  const strip = stages(decisions).map(([stage, places]) =>
    h("div", { class: "stage" }, h("span", {}, `stage ${stage}`), places.map((place) => blocks[place])));
  const options = h("div", { class: "row", style: "align-items: center", role: "group", "aria-live": "polite" });
  const facts = h("table", { "aria-live": "polite" });
  const score = scoring(model);

  function fact({ name, text, limit, share, over }) {
    const cells = [h("th", { scope: "row" }, name), h("td", {}, text)];
    if (limit) {
      const meter = h("meter", { min: 0, max: 1.5, high: 1, optimum: 0.5, value: share, "aria-label": `${name}, share of the limit` });
      cells.push(h("td", {}, meter), h("td", { class: over ? "over" : "within" }, `${over ? "over" : "within"} the limit of ${limit}`));
    }
    return h("tr", { "data-name": name }, cells);
  }

  function draw(data, state, answer) {
    start.show(named(presets, state.choices));
    decisions.forEach(({ name, options: own }, place) => {
      const option = own[state.choices[place]], { colour, ink, text } = looks[option];
      blocks[place].textContent = text;
      blocks[place].style.cssText = `background:${colour};color:${ink}`;
      blocks[place].setAttribute("aria-label", `${name}: ${option}`);
      blocks[place].setAttribute("title", `${name}: ${option}`);
      blocks[place].setAttribute("aria-pressed", place === open);
    });
    const { name, options: own } = decisions[open];
    if (options.dataset.open !== String(open)) {
      options.dataset.open = open;
      options.setAttribute("aria-label", name);
      const buttons = own.map((option, index) => h("button", { type: "button", onclick: () => choose(index) }, option));
      options.replaceChildren(h("span", { class: "quiet" }, `${name}:`), ...buttons);
    }
    [...options.querySelectorAll("button")].forEach((button, index) =>
      button.setAttribute("aria-pressed", index === state.choices[open]));
    if (answer.facts) facts.replaceChildren(...answer.facts.map(fact));
    score.show(answer);
  }

  const parts = [h("div", { class: "row" }, start.element), h("div", { class: "row" }, strip), options, facts,
    h("div", {}, score.elements)];
  card(model, el, "architecture editor", parts, draw);
}

export default { render };
