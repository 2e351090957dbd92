// A form made from a JSON schema. What a user leaves as it is, is not sent: the service fills its own defaults in.
//
// field(schema, path) gives { node, read }: the element, and what to send, or undefined for "the default". `path` is the
// JSON pointer, by which errors of the service find their field.

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

  field(schema, path, { name = "", required = false } = {}) {
    schema = this.resolve(schema);
    if (schema.anyOf) return this.optional(schema, path, { name });
    if (schema.oneOf && schema.discriminator) return this.choice(schema, path, { name, required });
    if (schema.properties) return this.object(schema, path, { name, required });
    if (schema.type === "object") return this.pairs(schema, path, { name });
    if (schema.type === "array") return this.list(schema, path, { name, required });
    return this.scalar(schema, path, { name, required });
  }

  // --- simple values ---------------------------------------------------------------------------------------------

  line(input, schema, path, { name, required = false }) {
    const id = `f${path.replaceAll("/", "-")}`;
    const error = element("p", { className: "error", id: `${id}-error` });
    const node = element("div", { className: "field" });
    input.id = id;
    input.setAttribute("aria-describedby", error.id);
    node.append(element("label", { htmlFor: id, textContent: words(name) + (required ? " *" : "") }), input);
    if (schema.description) node.append(element("p", { className: "hint", textContent: schema.description }));
    node.append(error);
    this.places.set(path, { input, error });
    return node;
  }

  scalar(schema, path, { name, required }) {
    const one = schema.const !== undefined;
    const free = schema.default === null; // nothing need be chosen
    if (one && !free) return { node: null, read: () => undefined };
    const choices = one ? [schema.const] : schema.enum;
    if (choices) {
      const input = element("select");
      if (free) input.append(new Option("default", ""));
      for (const choice of choices) input.append(new Option(choice, choice, choice === schema.default));
      const node = this.line(input, schema, path, { name, required });
      return {
        node,
        read: () => {
          const chosen = choices[input.selectedIndex - (free ? 1 : 0)];
          return chosen === schema.default && !required ? undefined : chosen;
        },
      };
    }
    if (schema.type === "boolean") {
      const input = element("input", { type: "checkbox", checked: Boolean(schema.default) });
      const node = this.line(input, schema, path, { name });
      return { node, read: () => (input.checked === Boolean(schema.default) ? undefined : input.checked) };
    }
    const number = schema.type === "integer" || schema.type === "number";
    const input = element("input", { type: number ? "number" : "text", autocomplete: "off" });
    if (number) {
      input.step = schema.type === "integer" ? 1 : "any";
      if (schema.minimum !== undefined) input.min = schema.minimum;
      if (schema.maximum !== undefined) input.max = schema.maximum;
    }
    if (schema.format === "uuid" && name === "id") input.setAttribute("list", "datasets"); // the ids that a job may name
    input.placeholder = schema.default ?? (schema.examples ? `such as ${schema.examples[0]}` : "");
    const node = this.line(input, schema, path, { name, required });
    return {
      node,
      read: () => {
        const text = input.value.trim();
        if (text === "") return undefined;
        return number ? Number(text) : text;
      },
    };
  }

  // name=value, one a line
  pairs(schema, path, { name }) {
    const input = element("textarea", { rows: 2, placeholder: "commit=abc123" });
    const hint = { description: schema.description ?? "One name=value a line." };
    const node = this.line(input, hint, path, { name });
    return {
      node,
      read: () => {
        const lines = input.value.split("\n").map((line) => line.trim()).filter(Boolean);
        if (!lines.length) return undefined;
        return Object.fromEntries(lines.map((line) => [line.split("=")[0].trim(), line.split("=").slice(1).join("=").trim()]));
      },
    };
  }

  list(schema, path, { name, required }) {
    const items = this.resolve(schema.items ?? {});
    if (items.oneOf || items.properties) return this.objects(schema, items, path, { name });
    const number = items.type === "integer" || items.type === "number";
    const input = number ? element("input", { type: "text", autocomplete: "off" }) : element("textarea", { rows: 3 });
    input.placeholder = (schema.default ?? []).join(number ? ", " : "\n");
    const hint = [schema.description, number ? "Separated by commas." : "One a line."].filter(Boolean).join(" ");
    const node = this.line(input, { description: hint }, path, { name, required });
    return {
      node,
      read: () => {
        const parts = input.value.split(number ? /[\s,]+/ : "\n").map((part) => part.trim()).filter(Boolean);
        if (!parts.length) return undefined;
        return number ? parts.map(Number) : parts;
      },
    };
  }

  objects(schema, items, path, { name }) {
    const node = element("fieldset");
    const rows = [];
    const holder = element("div");
    const add = element("button", { type: "button", className: "quiet", textContent: `Add ${words(name)}` });
    const hint = element("p", { className: "hint", textContent: `${schema.description ?? ""} None added: the default.` });
    add.addEventListener("click", () => {
      const inner = this.field(items, `${path}/${rows.length}`, { name, required: true });
      const remove = element("button", { type: "button", className: "quiet", textContent: "Remove" });
      const row = element("div", { className: "item" });
      const entry = { read: inner.read };
      remove.addEventListener("click", () => {
        rows.splice(rows.indexOf(entry), 1);
        row.remove();
        holder.dispatchEvent(new Event("input", { bubbles: true }));
      });
      row.append(inner.node, remove);
      rows.push(entry);
      holder.append(row);
      holder.dispatchEvent(new Event("input", { bubbles: true }));
    });
    node.append(element("legend", { textContent: words(name) }), hint, holder, add, this.errorOf(path));
    return { node, read: () => (rows.length ? rows.map((row) => row.read()) : undefined) };
  }

  // --- objects and choices between them --------------------------------------------------------------------------

  errorOf(path) {
    const error = element("p", { className: "error" });
    this.places.set(path, { input: null, error });
    return error;
  }

  fields(schema, path) {
    const needed = schema.required ?? [];
    const parts = Object.entries(schema.properties).map(([name, part]) => ({
      name,
      ...this.field(part, `${path}/${name}`, { name, required: needed.includes(name) }),
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

  object(schema, path, { name, required }) {
    const node = element("fieldset");
    const inner = this.fields(schema, path);
    if (name) node.append(element("legend", { textContent: words(name) }));
    if (schema.description) node.append(element("p", { className: "hint", textContent: schema.description }));
    node.append(...inner.nodes, this.errorOf(path));
    return {
      node,
      read: () => {
        const found = inner.read();
        return required || Object.keys(found).length ? found : undefined;
      },
    };
  }

  // X or null: a scalar is left out when empty; an object has a switch, off means null
  optional(schema, path, { name }) {
    const member = this.resolve(schema.anyOf.find((part) => part.type !== "null"));
    const merged = { ...member, description: schema.description ?? member.description, default: schema.default };
    if (!member.properties) return this.field(merged, path, { name });
    const called = name || path.slice(1); // a section's name stands outside, and its switch needs one
    const inner = this.object(merged, path, { name: called, required: false });
    const input = element("input", { type: "checkbox", checked: schema.default !== null || !("default" in schema) });
    const before = input.checked;
    const show = () => inner.node.querySelectorAll(".field, fieldset").forEach((part) => { part.hidden = !input.checked; });
    input.setAttribute("aria-label", words(called));
    input.addEventListener("change", show);
    inner.node.querySelector("legend").prepend(input, " ");
    show();
    return { node: inner.node, read: () => (!input.checked ? (before ? null : undefined) : inner.read() ?? (before ? undefined : {})) };
  }

  choice(schema, path, { name, required }) {
    const property = schema.discriminator.propertyName;
    const members = Object.entries(schema.discriminator.mapping).map(([tag, $ref]) => ({ tag, schema: this.resolve({ $ref }) }));
    const usual =
      members.find((member) => member.tag === schema.default?.[property]) ??
      members.find((member) => member.schema.properties[property].default !== undefined) ??
      members[0];
    const node = element("fieldset");
    const select = element("select");
    const about = element("p", { className: "hint" });
    const holder = element("div");
    for (const { tag } of members) select.append(new Option(words(tag), tag, false, tag === usual.tag));
    const head = this.line(select, {}, `${path}/${property}`, { name: name ? `${name} ${property}` : property });
    head.insertBefore(about, head.lastElementChild);
    let inner;
    const show = () => {
      for (const place of [...this.places.keys()]) {
        if (place.startsWith(`${path}/`) && place !== `${path}/${property}`) this.places.delete(place);
      }
      const member = members[select.selectedIndex];
      about.textContent = this.describe(path, member.tag) ?? member.schema.description ?? "";
      inner = this.fields(member.schema, path);
      holder.replaceChildren(...inner.nodes);
    };
    select.addEventListener("change", show);
    node.append(head, holder, this.errorOf(path));
    show();
    return {
      node,
      read: () => {
        const found = inner.read();
        if (!required && select.value === usual.tag && !Object.keys(found).length) return undefined;
        return { [property]: select.value, ...found };
      },
      chosen: () => words(select.value),
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
      place.error.textContent = expected && !detail.includes(expected) ? `${detail}; expected: ${expected}` : detail;
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
