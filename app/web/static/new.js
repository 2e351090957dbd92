// The form for a new job: every field, limit and default of it comes from GET /catalog.
import { copies } from "./copies.js";
import { estimateSoon } from "./estimate.js";
import { say } from "./notice.js";
import { SchemaForm, element, words } from "./schema_form.js";

const form = document.getElementById("form");
const submit = document.getElementById("submit");
const OPEN = ["model", "pruning"]; // and what starts with something in it
const OTHERS = "labels and more";
const title = (name) => words(name[0].toUpperCase() + name.slice(1));
const TABLES = { "/scoring": "criteria", "/pruning": "pruners", "/recovery": "recoveries", "/quantise": "quantisations" };

const response = await fetch("/catalog");
const catalog = await response.json();
if (!response.ok) {
  say(catalog.detail);
  throw new Error(catalog.detail);
}

const describe = (path, tag) => {
  const method = catalog[TABLES[path.replace(/\/\d+$/, "")]]?.find((row) => row.name === tag);
  return method && `${method.summary} (${method.paper})`;
};
const required = catalog.spec.required ?? [];
let builder;
let parts;

function group(name, open) {
  const node = element("details", { className: "group", open });
  const summary = element("summary", { textContent: title(name) });
  const state = element("small");
  summary.append(state);
  node.append(summary);
  return { node, state };
}

// The whole form, with `start` in it; it is made anew when a preset is chosen, since its defaults are then others.
function build(start) {
  const opened = new Set([...form.querySelectorAll("details[open] > summary")].map((one) => one.firstChild.textContent));
  const preset = catalog.presets.find((one) => one.name === start.preset)?.spec;
  const others = group(OTHERS, opened.has(title(OTHERS))); // single fields share one group
  const rare = document.createDocumentFragment(); // sections that most jobs go without come last
  builder = new SchemaForm(catalog.spec, describe);
  parts = [];
  form.replaceChildren();
  for (const [name, schema] of Object.entries(catalog.spec.properties)) {
    const given = { required: required.includes(name), value: start[name], preset: preset?.[name] };
    const field = builder.field(schema, `/${name}`, { name: "", ...given });
    if (field.node.matches(".field")) {
      field.node.querySelector("label").textContent = words(name);
      others.node.append(field.node);
      parts.push({ name, ...field, state: others.state });
      continue;
    }
    const own = group(name, OPEN.includes(name) || name in start || opened.has(title(name)));
    own.node.append(field.node);
    (schema.default === null ? rare : form).append(own.node);
    parts.push({ name, ...field, state: own.state });
  }
  form.append(rare, others.node);
}

function read() {
  const body = {};
  const said = new Map();
  for (const { name, read: value, chosen, state } of parts) {
    const found = value();
    if (found !== undefined) body[name] = found;
    const words = said.get(state) ?? { chosen: chosen?.(), usual: true };
    words.usual &&= found === undefined;
    said.set(state, words);
  }
  for (const [state, { chosen, usual }] of said) {
    state.textContent = [chosen, usual ? "defaults" : ""].filter(Boolean).join(", ");
  }
  return body;
}

function renew() {
  const body = read();
  if (body.model && body.pruning) estimateSoon(body);
  document.getElementById("body").textContent = JSON.stringify(body, null, 2);
  const written = copies(body, { origin: location.origin, locked: "locked" in form.dataset });
  for (const [name, text] of Object.entries(written)) document.getElementById(name).textContent = text;
}

form.addEventListener("input", renew);
form.addEventListener("change", (event) => {
  if (event.target.id === "f-preset") {
    build(read());
    document.getElementById("f-preset").focus();
  }
  renew();
});
build(JSON.parse(form.dataset.start)); // what an earlier job was asked for
renew();
submit.disabled = false;

offer().catch(() => {}); // a path can be typed too

// Local models by their names: the list is asked for by the page, which does not wait for it.
async function offer() {
  const answer = await fetch("/ui/models", { redirect: "error" });
  if (answer.ok) document.getElementById("models").innerHTML = await answer.text();
}

let key = crypto.randomUUID?.() ?? String(Math.random()).slice(2); // one job for this form, however often it is sent
form.addEventListener("input", () => { key = crypto.randomUUID?.() ?? String(Math.random()).slice(2); });

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  builder.clear();
  say("");
  submit.disabled = true;
  try {
    const answer = await fetch("/jobs", {
      method: "POST",
      headers: { "Content-Type": "application/json", "Idempotency-Key": key },
      body: JSON.stringify(read()),
    });
    const body = await answer.json();
    if (answer.ok) {
      location.assign(`/ui/jobs/${body.id}`);
      return;
    }
    const lost = (body.errors ?? []).filter((error) => !builder.show(error));
    say([body.detail, ...lost.filter((error) => error.detail !== body.detail).map((error) => error.detail)].join(" · "));
    form.querySelector("[aria-invalid=true]")?.focus();
  } catch {
    say("The service does not answer.");
  }
  submit.disabled = false;
});
