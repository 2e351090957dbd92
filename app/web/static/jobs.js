// The first page of jobs renews its filters and its rows while it is looked at, in place.
import { renewEvery } from "./renewal.js";

const list = document.querySelector("[data-live]");

if (list) {
  const url = new URL(location.href);
  url.searchParams.set("fragment", "true");
  renewEvery(3000, list, url);
}

// Two to five ticked jobs can be compared. Ticks stay while rows are renewed, since these are changed in place.
const compare = document.querySelector("#compare");
const [button, told] = [compare.querySelector("button"), document.querySelector("#ticked")];
const words = told.textContent;

function count() {
  const ticked = document.querySelectorAll(".tick input:checked").length;
  button.disabled = ticked < 2 || ticked > 5;
  told.textContent = ticked ? `${ticked} ticked${ticked > 5 ? ": five at most" : ticked < 2 ? ": tick another one" : ""}` : words;
}

document.addEventListener("change", count);
window.addEventListener("pageshow", count); // the browser keeps ticks on the way back
count();
