// The box: Enter sends, Shift+Enter breaks the line. What was typed stays until the server has it.

class Composer {
  // `actions`: send(text, nonce), stop().
  constructor(actions) {
    this.actions = actions;
    this.busy = false;
    this.pending = null;
    this.area = el("textarea", {
      rows: "1",
      placeholder: "Message",
      "aria-label": "Message (Enter sends, Shift+Enter breaks the line)",
      enterkeyhint: "send",
      oninput: () => this.grow(),
      onkeydown: (event) => {
        if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
          event.preventDefault();
          this.send();
        }
      },
    });
    this.sender = button("send", "Send (Enter)", () => this.send(), "send");
    this.stopper = button("stop", "Stop (Esc)", () => actions.stop(), "stop");
    this.stopper.hidden = true;
    this.element = el("div", { id: "box", class: "box" }, this.area, this.stopper, this.sender);
    this.area.value = tabMemory.get("draft") ?? "";
  }

  send() {
    const text = this.area.value;
    if (!text.trim() || this.pending || this.busy) return;
    this.pending = { text, nonce: crypto.getRandomValues(new Uint32Array(2)).join("") };
    this.sender.classList.add("pending");
    this.actions.send(text, this.pending.nonce);
    // A server that is gone never answers: the text is still there to be sent again.
    const { nonce } = this.pending;
    setTimeout(() => this.pending?.nonce === nonce && this.settle(), 10_000);
  }

  // The server has the message.
  arrived(nonce) {
    if (!this.pending || this.pending.nonce !== nonce) return;
    const { text } = this.pending;
    if (this.area.value.startsWith(text)) this.area.value = this.area.value.slice(text.length);
    this.settle();
    this.grow();
  }

  settle() {
    this.pending = null;
    this.sender.classList.remove("pending");
  }

  // Text comes back into the box; what is typed there meanwhile stays behind it.
  giveBack(text) {
    if (!text) return;
    this.area.value = this.area.value.trim() ? `${text}\n${this.area.value}` : text;
    this.grow();
    this.focus();
  }

  setBusy(busy) {
    const ended = this.busy && !busy;
    this.busy = busy;
    this.stopper.hidden = !busy;
    this.sender.hidden = busy;
    if (ended && (document.activeElement === document.body || document.activeElement === this.stopper)) this.focus();
  }

  focus() {
    if (finePointer()) this.area.focus();
  }

  grow() {
    tabMemory.set("draft", this.area.value);
    this.area.style.height = "auto";
    this.area.style.height = `${Math.min(this.area.scrollHeight, innerHeight * 0.35)}px`;
  }
}
