// A form made from a JSON schema. What a user leaves as it is, is not sent: the service fills its own defaults in.
//
// field(schema, path, { value }) gives { node, read }: the element, and what to send, or undefined for "the default". `path`
// is the JSON pointer, by which errors of the service find their field; `value` is what the field starts with, undefined for
// nothing. A value that is left as it was given is sent as it was given, to the letter. `preset` is what the chosen preset
// has for the field, which is then the default.

export class SchemaForm {
  constructor(root, describe) {
    this.root = root; // the schema whose $defs are referred to
    this.describe = describe; // (path, tag) → a sentence about a choice, or undefined
    this.places = new Map(); // JSON pointer → { input, error }
  }

  resolve(schema) {
    if (!schema.$ref) return schema;
    const { $ref, ...beside } = schema;
    return { ...this.root.$defs[$ref.split("/").at(-1)], ...beside };
  }

  field(schema, path, { name = "", required = false, value, preset } = {}) {
    schema = this.resolve(schema);
    if (schema.oneOf && schema.discriminator) return this.choice(schema, path, { name, required, value, preset });
    if (preset !== undefined) schema = { ...schema, default: preset };
    if (schema.anyOf) return this.optional(schema, path, { name, value, preset });
    if (schema.properties) return this.object(schema, path, { name, required, value, preset });
    if (schema.type === "object") return this.pairs(schema, path, { name, required, value });
    if (schema.type === "array") return this.list(schema, path, { name, required, value });
    return this.scalar(schema, path, { name, required, value });
  }

  // --- simple values ---------------------------------------------------------------------------------------------

  line(input, schema, path, { name, required = false }) {
    const id = `f${path.replaceAll("/", "-")}`;
    const error = element("p", { className: "error", id: `${id}-error` });
    const node = element("div", { className: "field" });
    input.id = id;
    input.setAttribute("aria-describedby", error.id);
    node.append(element("label", { htmlFor: id, textContent: words(name) + (required ? " *" : "") }), input);
    if (schema.description) node.append(hint(schema.description));
    node.append(error);
    this.places.set(path, { input, error });
    return node;
  }

  // A field that is written: what was given stands until it is written over.
  written(input, schema, path, { name, required, value }, { show, parse }) {
    const node = this.line(input, schema, path, { name, required });
    let given = value;
    if (value !== undefined && value !== null) input.value = show(value);
    if (value === null) input.placeholder = "none";
    input.addEventListener("input", () => { given = undefined; });
    return {
      node,
      read: () => {
        if (given !== undefined) return given;
        const text = input.value.trim();
        return text === "" ? undefined : parse(text);
      },
    };
  }

  // One of `options`, each { text, value }; the first is there when nothing is chosen.
  select(options, value) {
    const input = element("select");
    for (const option of options) {
      const chosen = option.value === value;
      input.append(new Option(option.text, option.value ?? "", chosen, chosen));
    }
    return { input, read: () => options[input.selectedIndex].value };
  }

  scalar(schema, path, { name, required, value }) {
    const one = schema.const !== undefined;
    if (one && schema.default !== null) return { node: null, read: () => undefined };
    const choices = one ? [schema.const] : schema.type === "boolean" ? [true, false] : schema.enum;
    if (choices) {
      const options = choices.map((choice) => ({ text: shown(choice), value: choice }));
      if (!required) options.unshift(byDefault(schema.default));
      if (value === null || (schema.nullable && schema.default !== null)) options.push({ text: "none", value: null });
      const { input, read } = this.select(options, value);
      return { node: this.line(input, schema, path, { name, required }), read };
    }
    const number = schema.type === "integer" || schema.type === "number";
    const input = element("input", { type: number ? "number" : "text", autocomplete: "off" });
    if (number) {
      input.step = schema.type === "integer" ? 1 : "any";
      if (schema.minimum !== undefined) input.min = schema.minimum;
      if (schema.maximum !== undefined) input.max = schema.maximum;
    }
    if (schema.format === "uuid" && name === "id") input.setAttribute("list", "datasets"); // the ids that a job may name
    if (/^\/(target_)?model\/path$/.test(path)) input.setAttribute("list", "models");
    input.placeholder = schema.default ?? (schema.examples ? `such as ${schema.examples[0]}` : "");
    return this.written(input, schema, path, { name, required, value }, { show: String, parse: number ? Number : String });
  }

  // name=value, one a line
  pairs(schema, path, { name, required, value }) {
    const example = Object.entries(schema.examples?.[0] ?? { commit: "abc123" });
    const numbers = schema.additionalProperties?.type === "number";
    const input = element("textarea", { rows: 2, placeholder: example.map((pair) => pair.join("=")).join("\n") });
    const description = [schema.description, "One name=value a line."].filter(Boolean).join(" ");
    const pair = (line) => {
      const [head, ...rest] = line.split("=");
      const text = rest.join("=").trim();
      return [head.trim(), numbers ? numeric(text) : text];
    };
    return this.written(input, { description }, path, { name, required, value }, {
      show: (pairs) => Object.entries(pairs).map((one) => one.join("=")).join("\n"),
      parse: (text) => Object.fromEntries(pieces(text, "\n").map(pair)),
    });
  }

  list(schema, path, { name, required, value }) {
    const items = this.resolve(schema.items ?? {});
    if (items.oneOf || items.properties) return this.objects(schema, items, path, { name, value });
    const number = items.type === "integer" || items.type === "number";
    const input = number ? element("input", { type: "text", autocomplete: "off" }) : element("textarea", { rows: 3 });
    const show = (parts) => parts.join(number ? ", " : "\n");
    input.placeholder = show(schema.default ?? []);
    const description = [schema.description, number ? "Separated by commas." : "One a line."].filter(Boolean).join(" ");
    return this.written(input, { description }, path, { name, required, value }, {
      show,
      parse: (text) => (number ? pieces(text, /[\s,]+/).map(numeric) : pieces(text, "\n")),
    });
  }

  objects(schema, items, path, { name, value }) {
    const node = element("fieldset");
    const rows = [];
    const holder = element("div");
    const called = words(name || path.slice(1)); // a section's name stands outside, and its button needs one
    const add = element("button", { type: "button", className: "quiet", textContent: `Add ${called}` });
    const about = hint(`${schema.description ?? ""} None added: the default.`);
    const changed = () => holder.dispatchEvent(new Event("input", { bubbles: true }));
    const append = (given) => {
      const inner = this.field(items, `${path}/${rows.length}`, { name, required: true, value: given });
      const remove = element("button", { type: "button", className: "quiet", textContent: "Remove" });
      const row = element("div", { className: "item" });
      const entry = { read: inner.read };
      remove.addEventListener("click", () => {
        rows.splice(rows.indexOf(entry), 1);
        row.remove();
        changed();
      });
      row.append(inner.node, remove);
      rows.push(entry);
      holder.append(row);
    };
    add.addEventListener("click", () => {
      append();
      changed();
    });
    (value ?? []).forEach(append);
    node.append(element("legend", { textContent: words(name) }), about, holder, add, this.errorOf(path));
    const none = value?.length === 0 ? value : undefined; // given as empty, where the default may be another
    return { node, read: () => (rows.length ? rows.map((row) => row.read()) : none) };
  }

  // --- objects and choices between them --------------------------------------------------------------------------

  errorOf(path) {
    const error = element("p", { className: "error" });
    this.places.set(path, { input: null, error });
    return error;
  }

  fields(schema, path, value, preset) {
    const needed = schema.required ?? [];
    const parts = Object.entries(schema.properties).map(([name, part]) => ({
      name,
      ...this.field(part, `${path}/${name}`, {
        name,
        required: needed.includes(name),
        value: value?.[name],
        preset: preset?.[name],
      }),
    }));
    return {
      nodes: parts.map((part) => part.node).filter(Boolean),
      read: () => {
        const found = {};
        for (const part of parts) {
          const value = part.read();
          if (value !== undefined) found[part.name] = value;
        }
        return found;
      },
    };
  }

  object(schema, path, { name, required, value, preset }) {
    const node = element("fieldset");
    const inner = this.fields(schema, path, value, preset);
    if (name) node.append(element("legend", { textContent: words(name) }));
    if (schema.description) node.append(hint(schema.description));
    node.append(...inner.nodes, this.errorOf(path));
    return {
      node,
      read: () => {
        const found = inner.read();
        return required || Object.keys(found).length ? found : undefined;
      },
    };
  }

  // X or null: of an object that is said by a choice of its own, beside the default
  optional(schema, path, { name, value, preset }) {
    const member = this.resolve(schema.anyOf.find((part) => part.type !== "null"));
    const about = [...new Set([schema.description, member.description])].filter(Boolean).join(" ");
    const merged = { ...member, description: about, default: schema.default, nullable: true };
    if (schema.examples) merged.examples = schema.examples;
    if (!member.properties) return this.field(merged, path, { name, value, preset });
    const usual = schema.default !== null; // where nothing is said
    const options = [byDefault(usual), { text: "yes", value: true }, { text: "no", value: false }];
    const state = this.select(options, value === undefined ? undefined : value !== null);
    const head = this.line(state.input, { description: about }, path, { name: name || path.slice(1) });
    const inner = this.fields(member, path, value, preset);
    const holder = element("div");
    holder.append(...inner.nodes);
    const show = () => { holder.hidden = !(state.read() ?? usual); };
    state.input.addEventListener("change", show);
    show();
    const node = element("fieldset");
    node.append(head, holder);
    return {
      node,
      read: () => {
        const said = state.read();
        if (!(said ?? usual)) return said === false ? null : undefined;
        const found = inner.read();
        return said || Object.keys(found).length ? found : undefined;
      },
    };
  }

  choice(schema, path, { name, required, value, preset }) {
    const property = schema.discriminator.propertyName;
    const members = Object.entries(schema.discriminator.mapping).map(([tag, $ref]) => ({ tag, schema: this.resolve({ $ref }) }));
    const none = schema.default === null; // nothing need be chosen
    const usual =
      members.find((member) => member.tag === (preset ?? schema.default)?.[property]) ??
      members.find((member) => member.schema.properties[property].default !== undefined) ??
      members[0];
    const options = members.map(({ tag }) => ({ text: words(tag), value: tag }));
    if (!required) options.unshift(byDefault(none ? null : words(usual.tag)));
    const { input, read } = this.select(options, value?.[property] ?? (required ? usual.tag : undefined));
    const node = element("fieldset");
    const about = hint("");
    const holder = element("div");
    const head = this.line(input, {}, `${path}/${property}`, { name: name ? `${name} ${property}` : property, required });
    head.insertBefore(about, head.lastElementChild);
    let inner;
    const show = (given) => {
      for (const place of [...this.places.keys()]) {
        if (place.startsWith(`${path}/`) && place !== `${path}/${property}`) this.places.delete(place);
      }
      const tag = read() ?? (none ? undefined : usual.tag);
      const member = members.find((one) => one.tag === tag);
      const said = member && [this.describe(path, tag), member.schema.description];
      about.replaceChildren(...parted((said ?? [schema.description]).filter(Boolean).join(" ")));
      const filled = member === usual ? preset : undefined; // of another method a preset says nothing
      inner = member ? this.fields(member.schema, path, given, filled) : { nodes: [], read: () => ({}) };
      holder.replaceChildren(...inner.nodes);
    };
    let given = value; // which is null where null was given
    input.addEventListener("change", () => {
      given = undefined;
      show();
    });
    node.append(head, holder, this.errorOf(path));
    show(value);
    return {
      node,
      read: () => {
        const found = inner.read();
        const tag = read() ?? (Object.keys(found).length ? usual.tag : undefined);
        if (tag === undefined) return given === null ? null : undefined;
        return { [property]: tag, ...found };
      },
      chosen: () => words(read() ?? (none ? "" : usual.tag)),
    };
  }

  // --- errors ----------------------------------------------------------------------------------------------------

  clear() {
    for (const { input, error } of this.places.values()) {
      error.textContent = "";
      input?.removeAttribute("aria-invalid");
    }
  }

  // Show an error at its pointer, or at the nearest part of the form above it; false if there is none.
  show({ pointer, detail, expected }) {
    for (let path = pointer; path; path = path.slice(0, path.lastIndexOf("/"))) {
      const place = this.places.get(path);
      if (!place) continue;
      place.error.textContent = expected && !detail.includes(expected) ? `${detail.replace(/\.$/, "")}; expected: ${expected}` : detail;
      place.input?.setAttribute("aria-invalid", "true");
      for (let part = place.error.closest("details"); part; part = part.parentElement.closest("details")) part.open = true;
      return place;
    }
    return null;
  }
}

export function element(name, properties = {}) {
  return Object.assign(document.createElement(name), properties);
}

export function words(name) {
  return name.replaceAll("_", " ");
}

// A sentence in parts; what stands between backticks is code.
const parted = (text) =>
  text.split(/`([^`\n]+)`/).map((part, place) => (place % 2 ? element("code", { textContent: part }) : part));

function hint(text) {
  const node = element("p", { className: "hint" });
  node.append(...parted(text));
  return node;
}

const shown = (value) => (value === true ? "yes" : value === false ? "no" : String(value));

// The choice to leave a choice to the service, which says what that comes to where that is known.
const byDefault = (value) => ({ text: value === null || value === undefined ? "default" : `default: ${shown(value)}`, value: undefined });

const pieces = (text, separator) => text.split(separator).map((part) => part.trim()).filter(Boolean);

// What is no number is sent as it is, so that the service says what is wrong with it.
const numeric = (text) => (text === "" || Number.isNaN(Number(text)) ? text : Number(text));
