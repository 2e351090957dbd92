// The form for a new job, or for a sweep of many: every field, limit and default of it comes from GET /catalog.
import { copies } from "./copies.js";
import { estimateSoon } from "./estimate.js";
import { say } from "./notice.js";
import { SchemaForm, element, words } from "./schema_form.js";

const form = document.getElementById("form");
const submit = document.getElementById("submit");
const OPEN = ["model", "pruning"]; // and what starts with something in it
const OTHERS = "labels and more";
const SWEEP = "several at once"; // what varies is a sweep's grid
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
const several = (type, description) => ({ type: "array", items: { type }, description });
const named = (rows) => rows.map((row) => `\`${row.name}\``).join(", ");
const AXES = {
  "pruning.ratio": several("number", "Shares that go, such as 0.1, 0.2, 0.3; in place of one above."),
  "pruning.blocks": several("integer", "Numbers of blocks that go, such as 3, 6, 9; in place of one above."),
  "pruning.kind": several("string", `Kinds of pruning: ${named(catalog.pruners)}.`),
  "scoring.criterion": several("string", `Criteria of depth pruning: ${named(catalog.criteria)}.`),
};
const required = catalog.spec.required ?? [];
let builder;
let parts;
let axes = [];

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
  const varied = grid();
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
  const sweep = group(SWEEP, location.hash === "#sweep" || opened.has(title(SWEEP)));
  sweep.node.id = "sweep";
  const about = "Each combination of these values becomes a job of one sweep. Left empty, it is one job.";
  sweep.node.append(element("p", { className: "hint", textContent: about }));
  axes = Object.entries(AXES).map(([name, schema]) => {
    const field = builder.field(schema, `/grid/${name}`, { name: name.split(".")[1], value: varied[name] });
    sweep.node.append(field.node);
    return { name, read: field.read, state: sweep.state };
  });
  sweep.node.append(builder.errorOf("/grid"));
  form.append(rare, sweep.node, others.node);
}

// What varies: fields of the spec, each with its values.
const grid = () => Object.fromEntries(axes.map(({ name, read: values }) => [name, values()]).filter(([, values]) => values?.length));

// What is asked for: one job, or a sweep, where something varies.
function request() {
  const spec = read();
  const varied = grid();
  const jobs = Object.values(varied).reduce((count, values) => count * values.length, 1);
  const what = Object.keys(varied).length ? "sweep" : "job";
  for (const { state } of axes) state.textContent = what === "sweep" ? `${jobs} jobs` : "";
  return { what, jobs, body: what === "sweep" ? { spec, grid: varied } : spec, first: first(spec, varied) };
}

// The first point of a sweep, whose estimate is told.
function first(spec, varied) {
  const point = structuredClone(spec);
  for (const [name, [value]] of Object.entries(varied)) {
    const [section, field] = name.split(".");
    point[section] = { ...point[section], [field]: value };
  }
  return point;
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
  const { what, jobs, body, first: point } = request();
  if (point.model && point.pruning) estimateSoon(point);
  document.getElementById("body").textContent = JSON.stringify(body, null, 2);
  document.getElementById("estimated").textContent = what === "sweep" ? "of the first of them" : "before anything runs";
  submit.textContent = what === "sweep" ? `Submit ${jobs} jobs` : "Submit";
  const written = copies(body, { what, origin: location.origin, locked: "locked" in form.dataset });
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
if (location.hash === "#sweep") document.getElementById("sweep").scrollIntoView();

offer().catch(() => {}); // a path can be typed too

// Local models by their names: the list is asked for by the page, which does not wait for it.
async function offer() {
  const answer = await fetch("/ui/models", { redirect: "error" });
  if (answer.ok) document.getElementById("models").innerHTML = await answer.text();
}

let key = crypto.randomUUID?.() ?? String(Math.random()).slice(2); // one job or sweep for this form, however often it is sent
form.addEventListener("input", () => { key = crypto.randomUUID?.() ?? String(Math.random()).slice(2); });

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  builder.clear();
  say("");
  submit.disabled = true;
  try {
    const { what, body: asked } = request();
    const answer = await fetch(`/${what}s`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "Idempotency-Key": key },
      body: JSON.stringify(asked),
    });
    const body = await answer.json();
    if (answer.ok) {
      location.assign(`/ui/${what}s/${body.id}`);
      return;
    }
    const lost = (body.errors ?? []).filter((error) => !builder.show({ ...error, pointer: error.pointer.replace(/^\/spec(?=\/)/, "") }));
    say([body.detail, ...lost.filter((error) => error.detail !== body.detail).map((error) => error.detail)].join(" · "));
    form.querySelector("[aria-invalid=true]")?.focus();
  } catch {
    say("The service does not answer.");
  }
  submit.disabled = false;
});
