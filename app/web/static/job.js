// One job as it happens: its event stream moves the stages, fills the log, and reloads the page at the end.
import { say } from "./notice.js";

const job = document.getElementById("job");
const log = document.getElementById("log");
const TERMINAL = ["succeeded", "failed", "cancelled"];
const LOG_LINES = 2000;

function duration(seconds) {
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${String(Math.floor(seconds % 60)).padStart(2, "0")} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

const row = (stage) => job.querySelector(`[data-stage="${CSS.escape(stage)}"]`);

function onState(event) {
  const state = event.data.state;
  if (!event.stage) {
    job.dataset.state = state;
    const badge = document.querySelector("#job-state .badge");
    badge.className = `badge state-${state}`;
    badge.textContent = state;
    if (TERMINAL.includes(state)) {
      stream.close();
      location.reload();
    }
    return;
  }
  const item = row(event.stage);
  if (!item) return;
  item.dataset.state = state;
  item.querySelector(".status").textContent = event.attempt > 1 ? `${state}, attempt ${event.attempt}` : state;
  const took = item.querySelector(".took");
  const bar = item.querySelector("progress");
  if (state === "running") {
    took.dataset.since = event.created_at;
    bar.removeAttribute("value");
    item.querySelector(".amount").textContent = "";
  } else {
    delete took.dataset.since;
    item.querySelector(".figure").textContent = "";
    if (state === "succeeded") {
      bar.value = 1;
      item.querySelector(".amount").textContent = "";
    }
    if (!bar.hasAttribute("value")) bar.value = 0;
  }
}

function onProgress(event) {
  const item = row(event.stage);
  if (!item || !event.data.total) return;
  item.querySelector("progress").value = event.data.done / event.data.total;
  item.querySelector(".amount").textContent = `${event.data.done} of ${event.data.total} ${event.data.unit}`;
}

function onMetrics(event) {
  const item = row(event.stage);
  if (item && typeof event.data.loss === "number") {
    item.querySelector(".figure").textContent = `loss ${event.data.loss.toFixed(3)}`;
  }
}

function onLog(event) {
  const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
  const line = document.createElement("span");
  const head = document.createElement("b");
  head.textContent = `${event.created_at.slice(11, 19)} ${event.stage ?? "job"}`;
  line.className = event.level;
  line.append(head, ` ${event.data.message}\n`);
  log.append(line);
  while (log.childElementCount > LOG_LINES) log.firstElementChild.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
}

let stream;
if (!TERMINAL.includes(job.dataset.state)) {
  // a browser resumes with Last-Event-ID by itself, which goes before `after`
  stream = new EventSource(`/jobs/${job.dataset.id}/events?after=${job.dataset.seq}`);
  const handlers = { state: onState, progress: onProgress, metrics: onMetrics, log: onLog };
  for (const [type, handle] of Object.entries(handlers)) {
    stream.addEventListener(type, (message) => handle(JSON.parse(message.data)));
  }
  stream.onerror = () => say("The connection was lost; trying again …");
  stream.onopen = () => say("");
  setInterval(() => {
    for (const item of job.querySelectorAll("[data-since]")) {
      item.textContent = duration(Math.max(0, (Date.now() - Date.parse(item.dataset.since)) / 1000));
    }
  }, 500);
}
log.scrollTop = log.scrollHeight;

const ACTIONS = {
  cancel: { method: "POST", path: "/cancel", then: () => say("Cancelling …") },
  retry: { method: "POST", path: "/retry", then: () => location.reload() },
  delete: { method: "DELETE", path: "", then: () => location.assign("/ui"), ask: "Delete this job and its files?" },
};

job.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-action]");
  if (!button) return;
  const action = ACTIONS[button.dataset.action];
  if (action.ask && !confirm(action.ask)) return;
  button.disabled = true;
  try {
    const response = await fetch(`/jobs/${job.dataset.id}${action.path}`, { method: action.method });
    if (response.ok) return action.then();
    say((await response.json()).detail);
  } catch {
    say("The service does not answer.");
  }
  button.disabled = false;
});
