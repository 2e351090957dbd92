// A question to the models of a job: sent by the public API, and answered by the event stream of its own small job.
import { say } from "./notice.js";

const form = document.getElementById("ask");
const answers = document.getElementById("answers");
const button = form.querySelector("button.primary");
const stop = document.getElementById("stop");
const base = `/jobs/${form.dataset.job}/answers`;
const TERMINAL = ["succeeded", "failed", "cancelled"];
const ENDED = { length: "; cut at its most tokens", time: "; its time was up", end: "" };

let asked; // the answer's id, while it is being written
let attempt;

const named = () => [...form.querySelectorAll("[name=variants]:checked")].map((tick) => tick.value);
const part = (variant, name) => answers.querySelector(`[data-variant="${variant}"] .${name}`);
const tokens = (number) => `${number} token${number === 1 ? "" : "s"}`;

function clear(words) {
  for (const column of answers.children) {
    column.querySelector(".said").textContent = "";
    column.querySelector(".speed").textContent = words;
    column.classList.remove("writes");
  }
}

function writes(variant) {
  for (const column of answers.children) column.classList.toggle("writes", column.dataset.variant === variant);
}

function onText(event) {
  if (attempt !== undefined && attempt !== event.attempt) clear("waits"); // its worker was lost, and another began again
  attempt = event.attempt;
  const { variant, text, tokens: count } = event.data;
  writes(variant);
  part(variant, "said").append(text);
  part(variant, "speed").textContent = count ? `${tokens(count)} so far` : "reads the prompt";
}

function onMetrics(event) {
  const { variant, tokens: count, tokens_per_second: speed, ended } = event.data;
  const told = speed === null ? "" : `, ${speed < 10 ? speed.toFixed(1) : Math.round(speed)} a second`;
  part(variant, "speed").textContent = `${tokens(count)}${told}${ENDED[ended]}`;
}

function onEnd(state, problem) {
  const words = { failed: problem?.detail ?? "It failed.", cancelled: "It was stopped before all had answered." }[state];
  for (const column of answers.querySelectorAll(".speed")) {
    if (/^(waits|reads)/.test(column.textContent)) column.textContent = "";
  }
  finish(words ?? "");
}

function finish(words) {
  say(words);
  asked = undefined;
  writes(undefined);
  answers.setAttribute("aria-busy", "false");
  stop.hidden = true;
  button.disabled = false;
}

function follow(id) {
  asked = id;
  attempt = undefined;
  clear("waits");
  answers.setAttribute("aria-busy", "true");
  button.disabled = true;
  stop.hidden = false;
  say("Waiting for a worker …");
  const stream = new EventSource(`/jobs/${id}/events`); // a browser resumes with Last-Event-ID by itself
  const handlers = {
    text: onText,
    metrics: onMetrics,
    state: (event) => {
      if (event.stage && event.data.state === "running") say("");
      if (event.stage || !TERMINAL.includes(event.data.state)) return;
      stream.close();
      onEnd(event.data.state, event.data.problem);
    },
  };
  for (const [type, handle] of Object.entries(handlers)) {
    stream.addEventListener(type, (message) => handle(JSON.parse(message.data)));
  }
  stream.onerror = () => say("The connection was lost; trying again …");
  stream.onopen = () => say(attempt === undefined ? "Waiting for a worker …" : "");
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const { prompt, max_tokens: most, temperature, chat } = form.elements;
  button.disabled = true;
  say("");
  try {
    const response = await fetch(base, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({
        prompt: prompt.value, max_tokens: most.valueAsNumber, temperature: temperature.valueAsNumber, chat: chat.checked,
        variants: named(),
      }),
    });
    const answer = await response.json();
    if (!response.ok) return finish(answer.errors?.[0]?.detail ?? answer.detail);
    follow(answer.id);
  } catch {
    finish("The service does not answer.");
  }
});

// the columns of who is to answer, unless somebody is answering
form.addEventListener("change", () => {
  const ticked = named();
  for (const tick of form.querySelectorAll("[name=variants]")) tick.setCustomValidity(ticked.length ? "" : "Tick one model at least.");
  if (!asked) for (const column of answers.children) column.hidden = !ticked.includes(column.dataset.variant);
});

form.elements.prompt.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit(button);
});

stop.addEventListener("click", async () => {
  stop.hidden = true;
  try {
    await fetch(`/jobs/${asked}/cancel`, { method: "POST" });
  } catch {
    say("The service does not answer.");
  }
});

if (form.dataset.asked) follow(form.dataset.asked); // one that was asked before the page was opened
