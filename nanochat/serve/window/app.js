// The page: its layout, and how the parts and the server hear of each other.
//
// The server's word comes over four channels, each the latest state of something: `view` (the open conversation),
// `live` (what is being written), `list` and `models`. What is done here goes to it as one event, "act".

const act = (kind, more = {}) =>
  trigger("act", { kind, id: view.id, models: picked(), system: settings.system.value, knobs: settings.knobs, ...more });

let view = { id: "", revision: -1, columns: [] };
let live = { busy: false, sides: [], revision: -1 };
let models = { models: [], default: "", defaults: {} };
let list = [];
let pickers = [];
let configuring = ""; // the nonce of a change of models or system prompt that the server has not answered yet

const transcripts = [0, 1].map(
  (column) =>
    new Transcript({
      edit: (turn, text) => act("edit", { turn, text, nonce: "edit" }),
      regenerate: () => act("regenerate", { column: view.columns.length > 1 ? column : null }),
      undo: () => act("undo"),
      fresh: () => open(""),
      example: (text) => {
        composer.area.value = text;
        composer.send();
      },
    }),
);
const composer = new Composer({
  send: (text, nonce) => act("send", { text, nonce }),
  stop: () => act("stop"),
});
const conversations = new Conversations({
  open: (id) => open(id),
  rename: (id, title) => act("rename", { id, text: title }),
  remove: (id) => (id === view.id ? act("delete") : act("remove", { id })),
});
const settings = new Settings(
  () => configure(),
  () => toggleSettings(false),
);

const title = el("span", { class: "title" });
const slot = el("span", { class: "slot" });
const comparing = button("columns", "Compare two models", () => toggleColumns(), "compare");
const settingsButton = button("gear", "Settings", () => toggleSettings(), "settings");
const problem = el("div", { id: "problem", role: "alert", hidden: true }, el("span"), button("close", "Close", () => tell("")));
const columns = el("div", { id: "columns" });
const theme = button("theme", "Dark or light", () => toggleTheme(), "theme");
const side = el(
  "aside",
  { id: "side", "aria-label": "Conversations" },
  el("header", {}, el("span", { class: "brand" }, "nanochat"), button("close", "Close", () => drawer(false), "close")),
  el("button", { type: "button", id: "new", onclick: () => open("") }, icon("plus"), "New chat"),
  conversations.element,
  el("div", { class: "tools" }, theme),
);
const shade = el("div", { id: "shade", onclick: () => closeAll() });
const bar = el("header", { id: "bar" }, button("menu", "Conversations", () => drawer(), "menu"), slot, title, comparing, settingsButton);
const main = el("main", {}, bar, problem, columns, el("div", { id: "composer" }, composer.element));
const root = el("div", { class: "nc" }, side, main, settings.element, shade);
element.replaceChildren(root);

// -- what the server says --------------------------------------------------------------------------------------------

const channels = (window.nanochatChannels ??= {});
channels.changed = (name) => {
  if (!channels[name]) return;
  const value = JSON.parse(JSON.stringify(channels[name])); // ours to change; Gradio's stays as it is
  if (name === "models") takeModels(value);
  if (name === "list") {
    list = value.conversations;
    if (value.nonce === configuring) configuring = "";
    conversations.update(list, view.id);
    nameWindow();
    if (value.problem) tell(value.problem);
  }
  if (name === "view") takeView(value);
  if (name === "live") {
    live = value;
    drawLive();
  }
};

function takeModels(value) {
  models = value;
  settings.setDefaults(value.defaults);
  drawColumns();
}

function takeView(value) {
  if (value.revision === view.revision) return; // told twice
  if (configuring && value.id === view.id) {
    // What was just picked is on its way; this view does not know of it yet.
    picked().forEach((model, place) => value.columns[place] && (value.columns[place].model = model));
  }
  const moved = value.id !== view.id;
  const began = view.id === "" && value.columns.some((column) => column.messages.length);
  view = value;
  if (value.id !== hashId()) history[moved && !began ? "pushState" : "replaceState"](null, "", value.id ? `#c=${value.id}` : location.pathname + location.search);
  composer.arrived(value.nonce);
  composer.giveBack(value.returned);
  // What is being typed there stays, unless another conversation was opened.
  if ((moved && !began) || document.activeElement !== settings.system) settings.system.value = value.system;
  tell(value.problem);
  drawColumns();
  if (moved && !began) transcripts.forEach((transcript) => transcript.toEnd());
  drawLive();
  conversations.update(list, view.id);
  nameWindow();
}

function drawLive() {
  // It may come before or after the conversation it belongs to.
  const mine = live.revision === view.revision;
  composer.setBusy(mine && live.busy);
  root.classList.toggle("busy", mine && live.busy);
  if (!mine || !live.busy) return;
  for (const side of live.sides) transcripts[side.column].write(side);
}

function drawColumns() {
  const two = view.columns.length > 1;
  root.classList.toggle("two", two);
  comparing.setAttribute("aria-pressed", String(two));
  comparing.disabled = !two && models.models.length < 2;
  pickers = view.columns.map((column, place) => pickers[place] ?? el("select", { class: "picker", "aria-label": `Model ${place + 1}`, onchange: () => configure() }));
  // An element that is put in anew, even in its old place, forgets how far it was scrolled.
  if (columns.childElementCount !== view.columns.length) {
    columns.replaceChildren(...transcripts.slice(0, view.columns.length).map(({ element }) => element));
  }
  view.columns.forEach((column, place) => {
    const transcript = transcripts[place];
    const picker = pickers[place];
    fill(picker, column.model);
    (two ? transcript.slot : slot).replaceChildren(picker);
    const model = models.models.find(({ name }) => name === picker.value);
    transcript.update(column, place ? [] : (model?.examples ?? []), model?.completes);
  });
  if (two) slot.replaceChildren();
  else transcripts[0].slot.replaceChildren();
}

function fill(picker, chosen) {
  const groups = Map.groupBy ? Map.groupBy(models.models, ({ run }) => run) : groupBy(models.models);
  picker.replaceChildren(
    ...[...groups].map(([run, members]) =>
      el("optgroup", { label: run }, ...members.map(({ name, completes }) => el("option", { value: name }, completes ? `${name} (completes text)` : name))),
    ),
  );
  if (chosen && !models.models.some(({ name }) => name === chosen)) picker.append(el("option", { value: chosen }, `${chosen} (not there)`));
  picker.value = chosen || models.default;
}

function groupBy(members) {
  const groups = new Map();
  for (const member of members) groups.set(member.run, [...(groups.get(member.run) ?? []), member]);
  return groups;
}

function nameWindow() {
  const name = list.find(({ id }) => id === view.id)?.title ?? view.title;
  title.textContent = name;
  document.title = name ? `${name} – nanochat` : "nanochat";
}

function tell(text) {
  problem.hidden = !text;
  problem.firstChild.textContent = text ?? "";
}

// -- what is done here ------------------------------------------------------------------------------------------------

function picked() {
  return pickers.map((picker) => picker.value).filter(Boolean);
}

// Models or system prompt changed: an open conversation keeps it, a new one takes it along with its first message.
function configure() {
  view.columns.forEach((column, place) => (column.model = pickers[place]?.value || column.model));
  view.system = settings.system.value;
  memory.set("models", picked());
  if (view.id) {
    configuring = String(Math.random());
    act("configure", { nonce: configuring });
  } else drawColumns();
  composer.focus();
}

function toggleColumns() {
  if (view.columns.length > 1) {
    if (view.columns[1].messages.length && !confirm("Drop the right column and its answers?")) return;
    pickers.length = 1;
    view.columns.length = 1;
  } else {
    const first = pickers[0].value;
    const others = models.models.filter(({ name }) => name !== first);
    const run = models.models.find(({ name }) => name === first)?.run;
    const other = others.filter((model) => model.run === run).at(-1) ?? others.at(-1);
    view.columns.push({ ...structuredClone(view.columns[0]), model: other.name });
  }
  drawColumns();
  configure();
}

function open(id) {
  composer.settle();
  act("open", { id, models: id ? [] : (picked().length ? picked() : (memory.get("models") ?? [])) });
  drawer(false);
  composer.focus();
}

// The list: a drawer on a phone, a column that can be folded away elsewhere.
function drawer(wanted) {
  if (narrow()) root.classList.toggle("side", wanted ?? !root.classList.contains("side"));
  else if (wanted === undefined) root.classList.toggle("noside");
}

function toggleSettings(wanted = settings.element.hidden) {
  settings.element.hidden = !wanted;
  settingsButton.setAttribute("aria-pressed", String(wanted));
  root.classList.toggle("setting", wanted);
  if (!wanted) composer.focus();
}

function closeAll() {
  root.classList.remove("side");
  toggleSettings(false);
}

// -- dark and light: as the system says, until somebody chooses -------------------------------------------------------

const systemDark = matchMedia("(prefers-color-scheme: dark)");
const drawTheme = () => {
  const dark = memory.get("dark") ?? systemDark.matches;
  if (document.body.classList.contains("dark") !== dark) document.body.classList.toggle("dark", dark);
};

function toggleTheme() {
  memory.set("dark", !document.body.classList.contains("dark"));
  drawTheme();
}

systemDark.addEventListener("change", drawTheme);
new MutationObserver(drawTheme).observe(document.body, { attributeFilter: ["class"] }); // Gradio sets it late
drawTheme();

// -- keys, the address, the beginning ---------------------------------------------------------------------------------

const hashId = () => /^#c=([0-9a-f]{16})$/.exec(location.hash)?.[1] ?? "";

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  if (composer.busy) act("stop");
  else if (root.classList.contains("side") || root.classList.contains("setting")) closeAll();
});
window.addEventListener("popstate", () => open(hashId()));
window.addEventListener("hashchange", () => hashId() !== view.id && open(hashId()));

// A phone's keyboard makes the page smaller instead of covering the box.
document
  .querySelector("meta[name=viewport]")
  ?.setAttribute("content", "width=device-width, initial-scale=1, interactive-widget=resizes-content");

act("open", { id: hashId(), models: hashId() ? [] : (memory.get("models") ?? []) });
composer.grow();
composer.focus();
