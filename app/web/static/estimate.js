// What the form's job would take, told beside it once the form has been left alone for a moment.
import { become } from "./morph.js";

const QUIET = 500; // milliseconds
const place = document.getElementById("estimate");
let waiting = null;
let asked = 0;

export function estimateSoon(body) {
  clearTimeout(waiting);
  waiting = setTimeout(() => estimate(body), QUIET);
}

async function estimate(body) {
  const mine = ++asked;
  let told = null;
  let problem = "the service does not answer";
  try {
    const answer = await fetch("/ui/estimate", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
      redirect: "error",
    });
    if (answer.ok) told = await answer.text();
    else problem = (await answer.json()).detail;
  } catch {
    // then it is as `problem` says
  }
  if (mine !== asked) return; // the form has changed meanwhile
  if (told !== null) {
    become(place, told);
    return;
  }
  const line = document.createElement("p");
  line.className = "sub";
  line.textContent = `No estimate yet: ${problem}.`;
  place.replaceChildren(line);
}
