// Making elements. Text goes in as text nodes only: nothing here ever parses markup.

const ICONS = {
  menu: "M4 6h16M4 12h16M4 18h16",
  plus: "M12 5v14M5 12h14",
  pencil: "M4 20l1-4L16 5l3 3L8 19zM14 7l3 3",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  copy: "M9 9h11v11H9zM15 9V4H4v11h5",
  check: "M5 13l4 4L19 7",
  again: "M20 12a8 8 0 1 1-2.5-5.8M20 3v4h-4",
  undo: "M8 5L4 9l4 4M4 9h10a5 5 0 0 1 0 10H9",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  theme: "M12 4a8 8 0 1 0 0 16zM12 4a8 8 0 0 1 0 16",
  gear: "M4 7h9M17 7h3M4 17h3M11 17h9M13 4.5v5M7 14.5v5M13 7h4M7 17h4",
  columns: "M4 5h16v14H4zM12 5v14",
  close: "M6 6l12 12M18 6L6 18",
  tool: "M6 3h12v18H6zM9 7h6M9 12h.01M12 12h.01M15 12h.01M9 16h.01M12 16h.01M15 16h.01",
};

function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (typeof value === "boolean") element[name] = value;
    else if (value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const path = document.createElementNS(space, "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

function button(name, label, onclick, className = "") {
  return el("button", { type: "button", class: `icon ${className}`, title: label, "aria-label": label, onclick }, icon(name));
}

// The clipboard needs https or localhost; elsewhere a selected text area does it.
async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = el("textarea", { class: "offscreen" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

// What a browser keeps for this page; where it keeps nothing (cookies forbidden), the page works without.
function memoryIn(storage) {
  return {
    get(name) {
      try {
        return JSON.parse(window[storage].getItem(`nanochat.${name}`));
      } catch {
        return null;
      }
    },
    set(name, value) {
      try {
        window[storage].setItem(`nanochat.${name}`, JSON.stringify(value));
      } catch {
        // full or forbidden
      }
    },
  };
}

const memory = memoryIn("localStorage");
const tabMemory = memoryIn("sessionStorage");
const finePointer = () => matchMedia("(pointer: fine)").matches;
const narrow = () => matchMedia("(max-width: 760px)").matches;
