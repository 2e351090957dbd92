// One sweep as it goes: its stream says that points stand otherwise, and the service writes the part of the page anew.
import { act } from "./actions.js";
import { become } from "./morph.js";
import { say } from "./notice.js";

const sweep = document.getElementById("sweep");
const live = document.getElementById("live");
const TERMINAL = ["succeeded", "failed", "cancelled"];
const LEAST_WAIT = 2000; // milliseconds between two renewals: each holds all reports against each other

let waiting = null;
let again = false;

async function renew() {
  const response = await fetch(`/ui/sweeps/${sweep.dataset.id}/live`, { redirect: "error" });
  if (response.ok) become(live, await response.text());
}

// one renewal at a time; of the changes that come meanwhile, one more shows them all
function renewSoon() {
  if (waiting) {
    again = true;
    return;
  }
  again = false;
  waiting = setTimeout(async () => {
    waiting = null;
    if (again) renewSoon();
  }, LEAST_WAIT);
  renew().catch(() => {}); // the service is away: the stream's own notice says so
}

if (!TERMINAL.includes(sweep.dataset.state)) {
  const stream = new EventSource(`/sweeps/${sweep.dataset.id}/events`);
  stream.addEventListener("sweep", (message) => {
    if (!TERMINAL.includes(JSON.parse(message.data).state)) return renewSoon();
    stream.close();
    location.reload();
  });
  stream.onerror = () => say("The connection was lost; trying again …");
  stream.onopen = () => say("");
}

act(sweep, `/sweeps/${sweep.dataset.id}`, {
  cancel: { method: "POST", path: "/cancel", then: () => say("Cancelling …") },
  retry: { method: "POST", path: "/retry", then: () => location.reload() },
  delete: {
    method: "DELETE",
    path: "",
    then: () => location.assign("/ui/sweeps"),
    ask: "Delete this sweep with its jobs and their files?",
  },
});
