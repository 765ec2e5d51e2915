// The page's whole state is the list of jobs, as the server tells it: a reload loses nothing.
"use strict";

const $ = (id) => document.getElementById(id);
const API = "generations";
const cards = new Map(); // job id -> {job, element}
const SAID = { failed: "It failed", rejected: "Refused", uncertain: "Perhaps paid", cancelled: "Cancelled" };

// ---- talking to the server

async function call(path, options) {
  const answer = await fetch(API + path, options);
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw Object.assign(new Error(explain(answer.status, told)), { status: answer.status });
  return told;
}

function explain(status, told) {
  const wait = told.retry_after ? ` Try again in ${seconds(told.retry_after)}.` : "";
  if (Array.isArray(told.detail)) return told.detail.map((finding) => finding.msg).join("; ");
  return (told.detail || `The server answered ${status}.`) + wait;
}

async function order(prompt, ratio) {
  const body = JSON.stringify({ prompt, aspect_ratio: ratio });
  show(await call("", { method: "POST", headers: { "Content-Type": "application/json" }, body }));
}

let silent = null; // a stream that ends by itself comes back within a second: no reason to worry anybody

function listen() {
  const events = new EventSource(API + "/events");
  events.onopen = () => { clearTimeout(silent); silent = null; $("offline").hidden = true; };
  events.addEventListener("job", (event) => show(JSON.parse(event.data)));
  events.onerror = () => {
    silent ??= setTimeout(() => { $("offline").hidden = false; lost(); }, 2500);
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, 3000);
  };
}

async function look() {
  if (document.hidden) return;
  try {
    const now = await call("/statistics");
    const busy = now.running + now.submitting + now.abandoned;
    const waiting = now.queued ? ` · ${now.queued} waiting` : "";
    $("slots").className = busy ? "pill busy" : "pill";
    $("slots-text").textContent = now.limit ? `${busy} of ${now.limit} busy${waiting}` : `${busy || "Nothing"} running${waiting}`;
  } catch { lost(); }
}

function lost() {
  $("slots").className = "pill lost";
  $("slots-text").textContent = "No connection";
}

// ---- showing jobs

function show(job) {
  let card = cards.get(job.id);
  if (card && card.job.ended && !job.ended) return; // an answer that was overtaken
  if (!card) {
    card = { job: null, element: $("card").content.firstElementChild.cloneNode(true) };
    cards.set(job.id, card);
    place(card.element, job);
    dress(card, job);
  }
  announce(card.job, job);
  card.job = job;
  paint(card.element, job);
  count();
}

function place(element, job) {
  element.dataset.created = job.created_at;
  const later = [...$("gallery").children].find((other) => other.dataset.created < job.created_at);
  $("gallery").insertBefore(element, later || null);
}

function dress(card, job) {
  const [width, height] = (job.aspect_ratio || "1:1").split(":").map(Number);
  card.element.style.setProperty("--ratio", width && height ? width / height : 1);
  card.element.querySelector(".prompt").textContent = job.prompt;
  card.element.querySelector(".prompt").title = job.prompt;
  card.element.querySelector(".open").onclick = () => view(card.job);
  card.element.querySelector(".cancel").onclick = () => attempt(() => call("/" + job.id, { method: "DELETE" }).then(show));
  card.element.querySelector(".again").onclick = () => attempt(() => order(job.prompt, job.aspect_ratio || "1:1"));
}

function paint(element, job) {
  const [look, what, more] = words(job);
  const part = (name) => element.querySelector("." + name);
  element.dataset.look = look;
  element.dataset.status = job.status;
  element.style.setProperty("--done", job.progress);
  part("what").textContent = what;
  part("more").textContent = more;
  part("cancel").hidden = job.status !== "queued";
  part("again").hidden = look !== "bad" || job.status === "uncertain";
  part("save").hidden = part("open").hidden = look !== "done";
  progress(part("state"), look === "running" ? job : null);
  if (look === "done") picture(part("open"), part("save"), job);
}

function words(job) {
  if (job.status === "completed") return ["done", "", ""];
  if (job.ended) return ["bad", SAID[job.status] || job.status, job.error ? plain(job.error) : ""];
  if (job.status === "running") return ["running", `${Math.round(job.progress)} %`, job.error ? "It takes longer than usual" : "Painting"];
  const ahead = job.position == null ? "Waiting" : job.position ? `${job.position} ahead` : "Next in line";
  return ["waiting", ahead, job.expected_wait ? `about ${seconds(job.expected_wait)}` : "for a free slot"];
}

function plain(error) {
  const paid = { yes: "The credits were taken.", no: "Nothing was charged.", maybe: "" }[error.paid] || "";
  const reason = error.detail.replace(/^generation \S+ failed: /, "").replace(/\.?$/, ".");
  return `${reason.length > 160 ? reason.slice(0, 160) + "…" : reason} ${paid}`;
}

function progress(state, job) {
  for (const name of ["role", "aria-valuenow", "aria-valuemin", "aria-valuemax", "aria-label"]) state.removeAttribute(name);
  if (!job) return;
  state.setAttribute("role", "progressbar");
  state.setAttribute("aria-valuenow", Math.round(job.progress));
  state.setAttribute("aria-valuemin", 0);
  state.setAttribute("aria-valuemax", 100);
  state.setAttribute("aria-label", `Painting ${job.prompt}`);
}

function picture(open, save, job) {
  const image = open.firstElementChild;
  if (image.getAttribute("src")) return;
  image.onload = () => image.classList.add("there");
  image.alt = job.prompt;
  image.src = job.images[0];
  open.setAttribute("aria-label", `Enlarge: ${job.prompt}`);
  save.href = job.images[0];
  save.setAttribute("aria-label", `Save: ${job.prompt}`);
}

function count() {
  const done = [...cards.values()].filter(({ job }) => job.status === "completed").length;
  const open = [...cards.values()].filter(({ job }) => !job.ended).length;
  $("count").textContent = [done && `${done} done`, open && `${open} to come`].filter(Boolean).join(" · ");
  $("empty").hidden = cards.size > 0;
}

function announce(before, job) {
  if (!before || before.status === job.status) return;
  const told = { running: "Started", completed: "Done", ...SAID }[job.status];
  if (told) $("announce").textContent = `${told}: ${job.prompt}`;
}

function view(job) {
  $("viewer-image").src = job.images[0];
  $("viewer-image").alt = job.prompt;
  $("viewer-prompt").textContent = job.prompt;
  $("viewer-save").href = job.images[0];
  $("viewer").showModal();
}

function seconds(number) {
  return number < 90 ? `${Math.max(1, Math.round(number))} s` : `${Math.round(number / 60)} min`;
}

// ---- the form

async function attempt(act) {
  $("problem").hidden = true;
  try {
    await act();
    return true;
  } catch (error) {
    $("problem").textContent = error.status ? error.message : "The server does not answer. Nothing was sent; try again.";
    $("problem").hidden = false;
    return false;
  }
}

async function send(event) {
  event.preventDefault();
  const prompt = $("prompt").value.trim();
  $("prompt").setAttribute("aria-invalid", String(!prompt));
  if (!prompt) {
    $("problem").textContent = "Write what the image shows.";
    $("problem").hidden = false;
    $("prompt").focus();
    return;
  }
  $("send").disabled = true;
  if (await attempt(() => order(prompt, $("order").elements.ratio.value))) {
    $("prompt").value = "";
    $("announce").textContent = `Queued: ${prompt}`;
    look();
  }
  $("send").disabled = false;
  $("prompt").focus();
}

async function begin() {
  $("order").addEventListener("submit", send);
  $("prompt").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("order").requestSubmit();
  });
  if (/Mac|iP(hone|ad)/.test(navigator.platform)) document.querySelector("kbd").textContent = "⌘";
  for (const idea of document.querySelectorAll(".idea")) {
    idea.onclick = () => { $("prompt").value = idea.textContent; $("prompt").focus(); };
  }
  $("viewer-close").onclick = () => $("viewer").close();
  $("viewer").onclick = (event) => { if (event.target === $("viewer")) $("viewer").close(); };
  listen();
  look();
  setInterval(look, 3000);
  document.addEventListener("visibilitychange", look);
  try {
    (await call("?limit=100")).jobs.forEach(show);
    count();
  } catch { $("offline").hidden = false; }
}

begin();
