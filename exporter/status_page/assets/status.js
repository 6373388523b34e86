// Renews the parts of the page that change, without touching focus, scroll position or a selection. Without it the page
// works too: reload it.
(() => {
  "use strict";
  const SECONDS = 15;
  const place = document.getElementById("refresh");
  const box = document.createElement("input");
  box.type = "checkbox";
  box.checked = true;
  const label = document.createElement("label");
  label.append(box, ` renew every ${SECONDS} s`);
  place.append(label);

  const selected = () => {
    const selection = document.getSelection();
    return selection !== null && !selection.isCollapsed;
  };

  // Return how to find the focused link again: by its address and its place among the links with that address.
  const focused = (part) => {
    const active = document.activeElement;
    if (!part.contains(active) || active === part || !active.hasAttribute("href")) return null;
    const same = [...part.querySelectorAll("a[href]")].filter((one) => one.href === active.href);
    return { href: active.href, index: same.indexOf(active) };
  };

  const renew = async () => {
    if (!box.checked || document.hidden || selected()) return;
    let fresh;
    try {
      const response = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (!response.ok) throw new Error(`status ${response.status}`);
      fresh = new DOMParser().parseFromString(await response.text(), "text/html");
    } catch {
      label.classList.add("bad");
      label.lastChild.textContent = " the exporter does not answer";
      return;
    }
    label.classList.remove("bad");
    label.lastChild.textContent = ` renew every ${SECONDS} s`;
    if (selected()) return;
    document.title = fresh.title;
    for (const part of document.querySelectorAll("[data-refresh]")) {
      const next = fresh.querySelector(`[data-refresh="${part.dataset.refresh}"]`);
      if (next === null || next.innerHTML === part.innerHTML) continue;
      const focus = focused(part);
      const [x, y, left] = [scrollX, scrollY, part.scrollLeft];
      part.replaceChildren(...next.childNodes);
      part.scrollLeft = left;
      if (focus !== null) {
        const same = [...part.querySelectorAll("a[href]")].filter((one) => one.href === focus.href);
        (same[focus.index] ?? same[0])?.focus({ preventScroll: true });
      }
      scrollTo(x, y);
    }
  };
  setInterval(renew, SECONDS * 1000);
  document.addEventListener("visibilitychange", renew);
})();
