// One column: its messages, what is being written, its status line and how full the context is.

class Transcript {
  // `actions`: edit(turn, text), regenerate(), undo(), fresh(), example(text).
  constructor(actions) {
    this.actions = actions;
    this.slot = el("div", { class: "head" });
    this.list = el("div", { class: "messages", role: "log", "aria-label": "Conversation", tabindex: "0" });
    this.line = el("span", { class: "status", role: "status" });
    this.bar = el("span", { class: "fill" });
    this.count = el("span", { class: "count" });
    this.meter = el("span", { class: "meter", hidden: true }, el("span", { class: "track" }, this.bar), this.count);
    this.full = el(
      "div",
      { class: "context-full", role: "alert", hidden: true },
      el("span"),
      el("button", { type: "button", onclick: () => actions.fresh() }, "New chat"),
    );
    this.element = el("section", { class: "talk" }, this.slot, this.list, this.full, el("div", { class: "foot" }, this.line, this.meter));
    this.shown = [];
    this.tail = null;
  }

  // Draw `messages`; an element whose message is the same stays, so that a selection in it does.
  update(column, examples, completes) {
    const messages = column.messages;
    const following = this.atEnd();
    this.tail = null;
    if (this.welcome) this.welcome.remove();
    this.welcome = null;
    const lastUser = messages.findLastIndex((message) => message.role === "user");
    messages.forEach((message, place) => {
      const key = JSON.stringify([message, place > lastUser, place === lastUser]);
      if (this.shown[place]?.key === key) return;
      const turn = messages.slice(0, place + 1).filter((one) => one.role === "user").length - 1;
      const element = message.role === "user" ? this.user(message, turn) : this.assistant(message, place > lastUser);
      if (this.shown[place]) this.shown[place].element.replaceWith(element);
      else this.list.append(element);
      this.shown[place] = { key, element };
    });
    for (const { element } of this.shown.splice(messages.length)) element.remove();
    if (!messages.length) this.list.append((this.welcome = this.greeting(examples, completes)));
    this.line.textContent = "";
    this.context(column.used, column.size);
    if (following) this.toEnd();
  }

  greeting(examples, completes) {
    const hint = completes
      ? "This model completes text: write a beginning, and it goes on."
      : "Say something to the model you have trained.";
    const chips = examples.map((text) =>
      el("button", { type: "button", class: "example", onclick: () => this.actions.example(text) }, text),
    );
    return el("div", { class: "welcome" }, el("h2", {}, "nanochat"), el("p", {}, hint), el("div", { class: "examples" }, ...chips));
  }

  user(message, turn) {
    const body = el("div", { class: "body" }, message.text);
    const article = el("article", { class: "message user" }, body);
    const actions = el(
      "div",
      { class: "actions" },
      this.copier(message.text),
      button("pencil", "Edit", () => this.edit(article, message.text, turn), "edit"),
    );
    article.append(actions);
    return article;
  }

  assistant(message, last) {
    const body = el("div", { class: "body" });
    drawPieces(body, message.pieces);
    const article = el("article", { class: "message assistant" }, body);
    const note = message.note ? [el("span", { class: "note" }, message.note)] : [];
    const actions = el("div", { class: "actions" }, ...note, this.copier(message.text));
    if (last) {
      actions.append(
        button("again", "Regenerate", () => this.actions.regenerate(), "regenerate"),
        button("undo", "Undo: take the message back", () => this.actions.undo(), "undo"),
      );
    }
    article.append(actions);
    return article;
  }

  copier(text) {
    const copy = button("copy", "Copy", async () => {
      await copyText(text);
      copy.replaceChildren(icon("check"));
      setTimeout(() => copy.replaceChildren(icon("copy")), 1200);
    }, "copy");
    return copy;
  }

  edit(article, text, turn) {
    const area = el("textarea", { "aria-label": "Edit the message", rows: Math.min(8, text.split("\n").length + 1) });
    area.value = text;
    const close = () => {
      form.remove();
      article.classList.remove("editing");
    };
    const save = () => {
      if (!area.value.trim()) return;
      close();
      this.actions.edit(turn, area.value);
    };
    const form = el(
      "form",
      {
        class: "editor",
        onsubmit: (event) => {
          event.preventDefault();
          save();
        },
        onkeydown: (event) => {
          if (event.key === "Escape") {
            event.stopPropagation();
            close();
          } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
            event.preventDefault();
            save();
          }
        },
      },
      area,
      el("div", {}, el("button", { type: "button", onclick: close }, "Cancel"), el("button", { class: "primary" }, "Send")),
    );
    article.classList.add("editing");
    article.append(form);
    area.focus();
    area.setSelectionRange(text.length, text.length);
  }

  // Draw what is being written in place of the last message; `side` is null where nothing is.
  write(side) {
    if (!side) return;
    const following = this.atEnd();
    if (!this.tail) {
      const last = this.shown.at(-1)?.element;
      if (!last?.classList.contains("assistant")) return;
      this.tail = last;
      this.tail.querySelector(".actions").replaceChildren();
      this.shown.at(-1).key = ""; // draw it anew when it is done
    }
    this.tail.classList.toggle("growing", side.state !== "done");
    drawPieces(this.tail.querySelector(".body"), side.pieces);
    if (this.line.textContent !== side.line) this.line.textContent = side.line;
    this.context(side.used, side.size, side.state !== "done");
    if (following) this.toEnd();
  }

  context(used, size, busy = false) {
    this.meter.hidden = !size || !used;
    if (size) {
      this.count.textContent = `context ${used} of ${size}`;
      this.bar.style.width = `${Math.min(100, (100 * used) / size)}%`;
      this.meter.classList.toggle("high", used > 0.85 * size);
    }
    this.full.hidden = busy || !size || used < size;
    this.full.firstChild.textContent =
      `The context is full: this model sees ${size} tokens, and no more. Start a new chat, or go on from an earlier message (edit or undo). `;
  }

  // Where a column does not scroll by itself (on a phone), what is around it does.
  scroller() {
    return getComputedStyle(this.list).overflowY === "visible" ? this.element.parentElement : this.list;
  }

  atEnd() {
    const box = this.scroller();
    return !box || box.scrollHeight - box.scrollTop - box.clientHeight < 60;
  }

  toEnd() {
    const box = this.scroller();
    if (box) box.scrollTop = box.scrollHeight;
  }
}

// Pieces are texts and tool calls; a text that only grew keeps its node.
function drawPieces(body, pieces) {
  pieces = pieces.filter((piece) => piece.text !== "");
  const kind = (piece) => ("text" in piece ? "text" : `tool ${piece.expression} ${piece.result}`);
  while (body.childNodes.length > pieces.length) body.lastChild.remove();
  pieces.forEach((piece, place) => {
    let node = body.childNodes[place];
    if (!node || node.kind !== kind(piece)) {
      const made = "text" in piece ? el("span") : toolCall(piece);
      made.kind = kind(piece);
      if (node) node.replaceWith(made);
      else body.append(made);
      node = made;
    }
    if ("text" in piece && node.textContent !== piece.text) node.textContent = piece.text;
  });
}

function toolCall(piece) {
  const answered = piece.result !== null;
  return el(
    "span",
    { class: "tool", title: "The model asked the calculator" },
    icon("tool"),
    el("code", { class: "expression" }, piece.expression),
    el("span", { class: "equals" }, answered ? "=" : "cannot be calculated"),
    el("code", { class: "result", hidden: !answered }, answered ? piece.result : ""),
  );
}
