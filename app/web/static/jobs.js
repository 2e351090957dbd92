// The first page of jobs renews its filters and its rows while it is looked at, in place.
import { become } from "./morph.js";

const list = document.querySelector("[data-live]");

async function renew() {
  if (document.hidden) return;
  const url = new URL(location.href);
  url.searchParams.set("fragment", "true");
  try {
    const response = await fetch(url, { redirect: "error" });
    if (response.ok) become(list, await response.text());
  } catch {
    // the service is away; the next turn tries again
  }
}

if (list) setInterval(renew, 3000);
