// The workers, as they are now.
import { become } from "./morph.js";

const rows = document.getElementById("rows");
const CLOCK = 3000;

setInterval(async () => {
  if (document.hidden) return;
  try {
    const answer = await fetch("/ui/workers?fragment=true", { redirect: "error" });
    if (answer.ok) become(rows, await answer.text());
  } catch {
    // the service is away; the next round asks again
  }
}, CLOCK);
