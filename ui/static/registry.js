// What the pages can do without, and are handier with.
"use strict";
(() => {
  const closeMenus = (but) => {
    for (const menu of document.querySelectorAll("details.chip[open]")) if (menu !== but) menu.open = false;
  };

  const addCopyButtons = (root) => {
    for (const text of root.querySelectorAll("[data-copy]:not([data-copied])")) {
      text.dataset.copied = "";
      const button = document.createElement("button");
      button.type = "button";
      button.className = "copy";
      button.textContent = "Copy";
      button.setAttribute("aria-label", "Copy " + text.textContent.trim().slice(0, 60));
      button.addEventListener("click", async () => {
        try {
          await navigator.clipboard.writeText(text.textContent.trim());
          button.textContent = "Copied";
        } catch {
          getSelection().selectAllChildren(text);
          button.textContent = "Press Ctrl-C";
        }
        setTimeout(() => { button.textContent = "Copy"; }, 2000);
      });
      text.after(button);
    }
  };

  const addRow = (button) => {
    const rows = button.form.querySelectorAll(".pair");
    const row = rows[rows.length - 1].cloneNode(true);
    for (const field of row.querySelectorAll("input, textarea")) {
      field.value = "";
      field.placeholder = "";
      field.setAttribute("aria-label", field.getAttribute("aria-label").replace(/\d+$/, rows.length + 1));
    }
    rows[rows.length - 1].after(row);
    row.querySelector("input").focus();
  };

  document.addEventListener("click", (event) => {
    closeMenus(event.target.closest("details.chip"));
    const more = event.target.closest("[data-more]");
    if (more) {
      event.preventDefault();
      addRow(more);
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      const menu = document.querySelector("details.chip[open]");
      if (menu) {
        menu.open = false;
        menu.querySelector("summary").focus();
      }
    }
    const search = document.getElementById("q");
    const isTyping = event.target.closest("input, textarea, select");
    if (event.key === "/" && search && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      search.focus();
      search.select();
    }
  });
  document.addEventListener("DOMContentLoaded", () => addCopyButtons(document));
  document.addEventListener("htmx:afterSettle", (event) => addCopyButtons(event.target));
})();
