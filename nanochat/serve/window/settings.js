// The settings panel: the conversation's system prompt, and sampling, which the browser remembers.

const FIELDS = [
  { name: "temperature", label: "Temperature", hint: "0 is greedy", min: 0, max: 2, step: 0.05, slider: true },
  { name: "top_p", label: "Top-p", hint: "1 is all", min: 0.05, max: 1, step: 0.05, slider: true },
  { name: "top_k", label: "Top-k", hint: "0 is all", min: 0, step: 1 },
  { name: "max_tokens", label: "Longest reply", hint: "in tokens", min: 1, step: 1 },
  { name: "seed", label: "Seed", hint: "empty: a new one each time", min: 0, step: 1 },
];

class Settings {
  // `changed()`: the system prompt is another one.
  constructor(changed, close) {
    this.defaults = {};
    this.chosen = memory.get("settings") ?? {};
    this.system = el("textarea", { id: "system", rows: "4", placeholder: "None", onchange: changed });
    this.inputs = {};
    const rows = FIELDS.map((field) => this.row(field));
    this.element = el(
      "aside",
      { id: "settings", "aria-label": "Settings", hidden: true },
      el("header", {}, el("h2", {}, "Settings"), button("close", "Close", close, "close")),
      el("label", { class: "field" }, el("span", {}, "System prompt ", el("small", {}, "of this conversation")), this.system),
      ...rows,
      el("button", { type: "button", class: "reset", onclick: () => this.reset() }, "Back to the defaults"),
    );
  }

  row({ name, label, hint, min, max, step, slider }) {
    const number = el("input", { type: "number", id: name, min, max, step: slider ? "any" : step, inputmode: "decimal" });
    const range = slider ? el("input", { type: "range", min, max, step, "aria-label": label, tabindex: "-1" }) : null;
    this.inputs[name] = { number, range };
    number.addEventListener("input", () => {
      if (range) range.value = number.value;
      this.keep(name, number.value);
    });
    range?.addEventListener("input", () => {
      number.value = range.value;
      this.keep(name, range.value);
    });
    return el(
      "label",
      { class: "field" },
      el("span", {}, `${label} `, el("small", {}, hint)),
      el("span", { class: "inputs" }, ...(range ? [range, number] : [number])),
    );
  }

  keep(name, text) {
    const value = text === "" ? null : Number(text);
    if (value === null || value === this.defaults[name]) delete this.chosen[name];
    else this.chosen[name] = value;
    memory.set("settings", this.chosen);
  }

  setDefaults(defaults) {
    this.defaults = defaults;
    this.draw();
  }

  draw() {
    for (const [name, { number, range }] of Object.entries(this.inputs)) {
      const value = this.chosen[name] ?? this.defaults[name];
      number.value = value ?? "";
      if (range) range.value = value ?? "";
    }
  }

  reset() {
    this.chosen = {};
    memory.set("settings", {});
    this.draw();
  }

  get knobs() {
    const { system, ...knobs } = { ...this.defaults, ...this.chosen };
    return knobs;
  }
}
