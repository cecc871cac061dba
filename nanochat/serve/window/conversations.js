// The list at the left: open, rename, delete; the newest first, under the day it was last changed.

class Conversations {
  // `actions`: open(id), rename(id, title), remove(id).
  constructor(actions) {
    this.actions = actions;
    this.element = el("nav", { id: "conversations", "aria-label": "Conversations" });
    this.drawn = "";
  }

  update(list, open) {
    const key = JSON.stringify([list.map(({ id, title }) => [id, title]), open]);
    if (key === this.drawn || this.element.querySelector("input")) return;
    this.drawn = key;
    this.element.replaceChildren();
    let heading = "";
    for (const conversation of list) {
      const day = dayName(conversation.updated);
      if (day !== heading) this.element.append(el("h3", {}, (heading = day)));
      this.element.append(this.entry(conversation, conversation.id === open));
    }
    if (!list.length) this.element.append(el("p", { class: "none" }, "No conversations yet."));
  }

  entry({ id, title }, current) {
    const entry = el("div", { class: current ? "entry current" : "entry", "data-id": id });
    entry.append(
      el("button", { type: "button", class: "title", title, "aria-current": current ? "page" : "false", onclick: () => this.actions.open(id) }, title),
      button("pencil", "Rename", () => this.rename(entry, id, title), "rename"),
      button("trash", "Delete", () => {
        if (confirm(`Delete "${title}"?`)) this.actions.remove(id);
      }, "delete"),
    );
    return entry;
  }

  rename(entry, id, title) {
    const input = el("input", { "aria-label": "Title", maxlength: "60" });
    input.value = title;
    let over = false;
    const end = (save) => {
      if (over) return;
      over = true;
      this.drawn = "";
      input.remove();
      entry.classList.remove("renaming");
      const wanted = input.value.trim();
      if (save && wanted && wanted !== title) this.actions.rename(id, wanted);
    };
    input.addEventListener("keydown", (event) => {
      if (event.key === "Escape") event.stopPropagation();
      if (event.key === "Enter" || event.key === "Escape") end(event.key === "Enter");
    });
    input.addEventListener("blur", () => end(true));
    entry.classList.add("renaming");
    entry.append(input);
    input.focus();
    input.select();
  }
}

function dayName(seconds) {
  const midnight = new Date().setHours(0, 0, 0, 0);
  const days = Math.ceil((midnight - seconds * 1000) / 86_400_000);
  return days <= 0 ? "Today" : days === 1 ? "Yesterday" : days <= 7 ? "Last 7 days" : "Older";
}
