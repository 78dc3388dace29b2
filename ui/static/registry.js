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

  // A chip's link puts it and its menu in the place of others: the focus waits at what will be there again.
  const leaveMenu = (used) => {
    let chip = used;
    while (chip && !chip.matches("details.chip")) chip = chip.closest("details.chip") || chip.previousElementSibling;
    if (chip) chip.querySelector("summary").focus();
    closeMenus(null);
  };

  const tell = (text, isBad) => {
    const progress = document.getElementById("progress");
    if (!progress) return;
    progress.textContent = text;
    progress.classList.toggle("bad", Boolean(isBad));
  };
  let waiting = 0;

  // The view of the list that this tab has left, for the way back from an image.
  const keepView = () => {
    if (document.getElementById("view")) sessionStorage.setItem("view", location.search);
  };
  const leadBack = () => {
    const view = sessionStorage.getItem("view");
    if (!view || !view.startsWith("?")) return;
    for (const link of document.querySelectorAll(".back a")) link.search = view;
    for (const form of document.querySelectorAll("form[action$='/delete']")) {
      const field = Object.assign(document.createElement("input"), {type: "hidden", name: "view", value: view});
      form.append(field);
    }
  };

  document.addEventListener("click", (event) => {
    const used = event.target.closest(".chips .menu a, .chips .unset");
    if (used) leaveMenu(used);
    else closeMenus(event.target.closest("details.chip"));
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
  document.addEventListener("submit", (event) => {
    if (event.target.closest(".chips .menu")) leaveMenu(event.target);
  });
  document.addEventListener("focusout", (event) => {
    const menu = event.target.closest("details.chip[open]");
    if (menu && event.relatedTarget && !menu.contains(event.relatedTarget)) menu.open = false;
  });
  document.addEventListener("htmx:beforeSend", () => {
    clearTimeout(waiting);
    waiting = setTimeout(tell, 300, "Loading …");
  });
  document.addEventListener("htmx:afterRequest", () => {
    clearTimeout(waiting);
    tell("");
  });
  document.addEventListener("htmx:sendError", () => {
    tell("The registry could not be reached: the list is as it was.", true);
  });
  addEventListener("pagehide", keepView);
  document.addEventListener("DOMContentLoaded", () => {
    addCopyButtons(document);
    leadBack();
  });
  document.addEventListener("htmx:afterSettle", (event) => addCopyButtons(event.target));
})();
