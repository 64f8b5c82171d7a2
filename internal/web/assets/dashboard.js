// Refreshes the parts of the page that are marked data-live by asking for the page again. Only
// what has changed is touched, so that focus, opened details and selected text stay.
"use strict";
(() => {
  const every = 2000;
  const button = document.getElementById("freeze");
  const age = document.getElementById("age");
  const lost = document.getElementById("lost");
  let frozen = false;
  let timer = 0;

  // selected reports whether a node is part of a text that somebody has selected.
  function selected(node) {
    const selection = document.getSelection();
    return selection !== null && !selection.isCollapsed && selection.containsNode(node, true);
  }

  const keyOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") : null);

  // update makes a node like the fresh one, which has the same name.
  function update(node, fresh) {
    if (node.nodeType !== Node.ELEMENT_NODE) {
      if (node.nodeValue !== fresh.nodeValue && !selected(node)) node.nodeValue = fresh.nodeValue;
      return;
    }
    for (const { name } of [...node.attributes]) {
      if (!fresh.hasAttribute(name) && name !== "open") node.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (node.getAttribute(name) !== value) node.setAttribute(name, value);
    }
    updateChildren(node, fresh);
  }

  // updateChildren finds nodes with a key by it, and others by their place.
  function updateChildren(node, fresh) {
    const old = new Map();
    for (const child of node.children) if (keyOf(child) !== null) old.set(keyOf(child), child);
    const wanted = new Set();
    for (const child of fresh.children) if (keyOf(child) !== null) wanted.add(keyOf(child));
    let next = node.firstChild;
    const drop = () => {
      const gone = next;
      next = next.nextSibling;
      gone.remove();
    };
    for (const want of [...fresh.childNodes]) {
      const key = keyOf(want);
      while (next && keyOf(next) !== null && !wanted.has(keyOf(next)) && !selected(next)) drop();
      let have = null;
      if (key !== null) have = old.get(key) ?? null;
      else if (next && keyOf(next) === null && next.nodeName === want.nodeName) have = next;
      if (have === null) {
        node.insertBefore(document.importNode(want, true), next);
        continue;
      }
      if (have === next) next = next.nextSibling;
      else node.insertBefore(have, next);
      update(have, want);
    }
    while (next) {
      if (selected(next)) next = next.nextSibling;
      else drop();
    }
  }

  function adopt(text) {
    const fresh = new DOMParser().parseFromString(text, "text/html");
    for (const part of document.querySelectorAll("[data-live]")) {
      const now = fresh.getElementById(part.id);
      if (now) update(part, now);
    }
    document.title = fresh.title;
    age.textContent = fresh.getElementById("age").textContent;
    lost.textContent = "";
    document.documentElement.classList.remove("lost");
  }

  // markLost says once that nothing on the page is known to be true any more: every change of
  // an alert is read out.
  function markLost() {
    if (document.documentElement.classList.contains("lost")) return;
    document.documentElement.classList.add("lost");
    const pool = document.querySelector("#where .pool").textContent;
    const state = document.getElementById("state");
    state.textContent = "no answer";
    state.className = "pill bad";
    document.title = `No answer · ${pool} · Rollcall`;
    lost.textContent = `This replica does not answer. Everything below is ${age.textContent}. Trying again.`;
  }

  async function refresh() {
    clearTimeout(timer);
    if (frozen || document.hidden) return;
    try {
      const response = await fetch("/", { cache: "no-store", signal: AbortSignal.timeout(8000) });
      if (!response.ok) throw new Error(response.statusText);
      const text = await response.text();
      if (!frozen) adopt(text);
    } catch {
      markLost();
    }
    clearTimeout(timer);
    timer = setTimeout(refresh, every);
  }

  button.hidden = false;
  button.addEventListener("click", () => {
    frozen = !frozen;
    button.textContent = frozen ? "Unfreeze page" : "Freeze page";
    button.classList.toggle("on", frozen);
    refresh();
  });
  document.addEventListener("visibilitychange", refresh);
  timer = setTimeout(refresh, every);
})();
