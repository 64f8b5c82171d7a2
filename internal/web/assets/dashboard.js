// Renews the parts of the page that are marked data-live by asking for the page again. What a
// person may have the focus in stays: only the inside of these parts is replaced.
"use strict";
(() => {
  const every = 2000;
  const button = document.getElementById("pause");
  const age = document.getElementById("age");
  const lost = document.getElementById("lost");
  let paused = false;
  let timer = 0;

  function adopt(text) {
    const fresh = new DOMParser().parseFromString(text, "text/html");
    for (const part of document.querySelectorAll("[data-live]")) {
      const now = fresh.getElementById(part.id);
      if (now && now.innerHTML !== part.innerHTML) part.replaceChildren(...now.childNodes);
    }
    document.title = fresh.title;
    age.textContent = fresh.getElementById("age").textContent;
    lost.textContent = "";
  }

  async function renew() {
    clearTimeout(timer);
    if (paused || document.hidden) return;
    try {
      const response = await fetch("/", { cache: "no-store", signal: AbortSignal.timeout(8000) });
      if (!response.ok) throw new Error(response.statusText);
      adopt(await response.text());
    } catch {
      // Once: every change of an alert is read out.
      if (!lost.textContent) lost.textContent = "This replica does not answer. What you see is old; trying again.";
    }
    timer = setTimeout(renew, every);
  }

  button.hidden = false;
  button.addEventListener("click", () => {
    paused = !paused;
    button.textContent = paused ? "Go on" : "Pause";
    button.classList.toggle("on", paused);
    renew();
  });
  document.addEventListener("visibilitychange", renew);
  timer = setTimeout(renew, every);
})();
