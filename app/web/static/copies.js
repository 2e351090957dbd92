// The same request for other hands: a shell with curl, the command line, Python. Each sends the very body that the form does.

const indented = (spec) => JSON.stringify(spec, null, 2);
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`; // for a shell

// `what` is "job" or "sweep", which the body asks for.
export function copies(body, { what, origin, locked }) {
  const sweep = what === "sweep";
  const key = locked ? ` \\\n  -H "Authorization: Bearer $SECATEUR_API_KEY"` : "";
  return {
    curl: `curl -sS -X POST ${origin}/${what}s${key} \\\n  -H 'Content-Type: application/json' -d ${quoted(indented(body))}`,
    // no line of JSON can be the word that ends it
    cli: `SECATEUR_URL=${origin} secateur ${sweep ? "sweep --file" : "submit --spec"} - <<'BODY'\n${indented(body)}\nBODY`,
    python: [
      "from secateur import Client",
      "",
      `${sweep ? "sweep" : "spec"} = ${literal(body)}`,
      `with Client("${origin}") as client:${locked ? "  # the key is taken from SECATEUR_API_KEY" : ""}`,
      `    print(client.${sweep ? "sweeps.create(sweep)" : "jobs.create(spec)"}.id)`,
    ].join("\n"),
  };
}

// JSON as Python writes it; what JSON escapes in a text, Python reads alike.
function literal(value, margin = "") {
  const inner = `${margin}    `;
  const rows = (parts) => parts.map((part) => `\n${inner}${part},`).join("") + (parts.length ? `\n${margin}` : "");
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${rows(value.map((item) => literal(item, inner)))}]`;
  if (typeof value !== "object") return JSON.stringify(value);
  return `{${rows(Object.entries(value).map(([name, item]) => `${JSON.stringify(name)}: ${literal(item, inner)}`))}}`;
}
