// One sweep as it goes: its stream says that points stand otherwise, and the service writes the part of the page anew.
import { act } from "./actions.js";
import { say } from "./notice.js";
import { renewals } from "./renewal.js";

const sweep = document.getElementById("sweep");
const live = document.getElementById("live");
const TERMINAL = ["succeeded", "failed", "cancelled"];
const LEAST_WAIT = 2000; // milliseconds between two renewals: each holds all reports against each other

const renewSoon = renewals(live, `/ui/sweeps/${sweep.dataset.id}/live`, { wait: LEAST_WAIT, atOnce: true });

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

// A point of the plot and its row of the table belong together: each shows the other, and a click on a point picks its row.
const placed = (target) => target.closest?.("[data-place]")?.dataset.place;

function show(place, name) {
  for (const one of live.querySelectorAll("[data-place]")) one.classList.toggle(name, one.dataset.place === place);
}

live.addEventListener("pointerover", (event) => show(placed(event.target), "looked-at"));
live.addEventListener("pointerleave", () => show(undefined, "looked-at"));
live.addEventListener("focusin", (event) => show(placed(event.target), "looked-at"));
live.addEventListener("click", (event) => {
  if (!event.target.closest(".point")) return;
  show(placed(event.target), "picked");
  live.querySelector("tr.picked a").focus();
});
