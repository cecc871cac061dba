"""The chat window: what the browser shows (`*.js`, `window.css`) and what answers it."""
