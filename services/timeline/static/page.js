// Keeps an open page true: told that something moved, it fetches the same page again and puts in the parts that differ.
// Without this script everything is there as well, as of the moment the page was loaded.

const live = document.getElementById("live");
const words = document.getElementById("live-text");
let wanted = false;
let busy = false;

function say(state, text) {
  live.hidden = false;
  live.className = state;
  words.textContent = text;
}

function keyed(part) {
  return new Map([...part.querySelectorAll("[data-key]")].map((e) => [e.dataset.key, e.outerHTML]));
}

function swap(old, fresh) {
  const before = keyed(old);
  const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
  old.replaceWith(fresh);
  for (const element of fresh.querySelectorAll("[data-key]")) {
    if (before.get(element.dataset.key) !== element.outerHTML) element.classList.add("fresh");
  }
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
}

async function refresh() {
  if (busy || document.hidden) {
    wanted = true;
    return;
  }
  busy = true;
  wanted = false;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (!answer.ok) throw new Error(answer.status);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const main = document.getElementById("main");
    for (const fresh of page.querySelectorAll("[data-part]")) {
      const old = document.getElementById(fresh.id);
      if (!old) main.append(fresh);
      else if (bare(old) !== fresh.outerHTML) swap(old, fresh);
    }
  } catch {
    wanted = true; // the next message, or the next look at the page, tries again
  } finally {
    busy = false;
    setTimeout(() => wanted && refresh(), 500);
  }
}

// What the server sent, without the marks made here.
function bare(part) {
  const copy = part.cloneNode(true);
  for (const element of copy.querySelectorAll(".fresh")) {
    element.classList.remove("fresh");
    if (!element.classList.length) element.removeAttribute("class");
  }
  return copy.outerHTML;
}

const stream = new EventSource(document.body.dataset.events);
stream.onopen = () => say("on", "实时 Live");
stream.onerror = () => say("off", "重新连接… Reconnecting");
stream.addEventListener("moved", refresh);
document.addEventListener("visibilitychange", () => wanted && refresh());
addEventListener("pagehide", () => stream.close());
addEventListener("pageshow", (event) => event.persisted && location.reload());

for (const select of document.querySelectorAll("form.search select")) {
  select.addEventListener("change", () => select.form.requestSubmit());
}
