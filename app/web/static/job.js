// One job as it happens: its event stream renews the part that the service writes anew, fills the log, and reloads the
// page at the end. Every figure and every time comes from the service as text.
import { act } from "./actions.js";
import { say } from "./notice.js";
import { renewals } from "./renewal.js";

const job = document.getElementById("job");
const live = document.getElementById("live");
const log = document.getElementById("log");
const TERMINAL = ["succeeded", "failed", "cancelled"];
const LOG_LINES = 2000;
const LEAST_WAIT = 300; // milliseconds between two renewals, however many events come
const CLOCK = 2000; // a stage that tells nothing still takes longer

const renewSoon = renewals(live, `/ui/jobs/${job.dataset.id}/live`, { wait: LEAST_WAIT });

function onState(event) {
  if (!event.stage && TERMINAL.includes(event.data.state)) {
    stream.close();
    location.reload();
    return;
  }
  renewSoon();
}

function onLog(event) {
  const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
  const line = document.createElement("span");
  const head = document.createElement("b");
  head.textContent = `${event.created_at.slice(11, 19)} ${event.stage ?? "job"}`; // RFC 3339 in UTC
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
  const handlers = { state: onState, progress: renewSoon, metrics: renewSoon, log: onLog };
  for (const [type, handle] of Object.entries(handlers)) {
    stream.addEventListener(type, (message) => handle(JSON.parse(message.data)));
  }
  stream.onerror = () => say("The connection was lost; trying again …");
  stream.onopen = () => say("");
  setInterval(() => { if (!document.hidden) renewSoon(); }, CLOCK);
}
log.scrollTop = log.scrollHeight;

act(job, `/jobs/${job.dataset.id}`, {
  cancel: { method: "POST", path: "/cancel", then: () => say("Cancelling …") },
  retry: { method: "POST", path: "/retry", then: () => location.reload() },
  delete: { method: "DELETE", path: "", then: () => location.assign("/ui"), ask: "Delete this job and its files?" },
});
