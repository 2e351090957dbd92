// The form for a new job: every field, limit and default of it comes from GET /catalog.
import { SchemaForm, element, words } from "./schema_form.js";

const form = document.getElementById("form");
const submit = document.getElementById("submit");
const notice = document.getElementById("notice");
const OPEN = ["model", "pruning"];
const TABLES = { "/scoring": "criteria", "/pruning": "pruners", "/recovery": "recoveries" };

function say(text) {
  notice.textContent = text;
  notice.hidden = !text;
}

const response = await fetch("/catalog");
const catalog = await response.json();
if (!response.ok) {
  say(catalog.detail);
  throw new Error(catalog.detail);
}

const describe = (path, tag) => {
  const method = catalog[TABLES[path]]?.find((row) => row.name === tag);
  return method && `${method.summary} (${method.paper})`;
};
const builder = new SchemaForm(catalog.spec, describe);
const required = catalog.spec.required ?? [];
const parts = [];
form.replaceChildren();
for (const [name, schema] of Object.entries(catalog.spec.properties)) {
  const part = { name, ...builder.field(schema, `/${name}`, { name: "", required: required.includes(name) }) };
  const group = element("details", { className: "group", open: OPEN.includes(name) });
  const summary = element("summary", { textContent: words(name) });
  const state = element("small");
  summary.append(state);
  const label = part.node.matches(".field") ? part.node.querySelector("label") : null;
  if (label) label.textContent = words(name);
  group.append(summary, part.node);
  form.append(group);
  parts.push({ ...part, state });
}

function read() {
  const body = {};
  for (const { name, read: value, chosen, state } of parts) {
    const found = value();
    if (found !== undefined) body[name] = found;
    state.textContent = [chosen?.(), found === undefined ? "as usual" : ""].filter(Boolean).join(", ");
  }
  return body;
}

function renew() {
  const text = JSON.stringify(read(), null, 2);
  document.getElementById("body").textContent = text;
  const quoted = text.replaceAll("'", "'\\''");
  document.getElementById("curl").textContent =
    `curl -sS -X POST ${location.origin}/jobs -H 'Content-Type: application/json' -d '${quoted}'`;
}

form.addEventListener("input", renew);
form.addEventListener("change", renew);
renew();
submit.disabled = false;

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
