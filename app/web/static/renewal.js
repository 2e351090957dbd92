// Parts of a page that the service writes anew, brought up to date in place.
import { become } from "./morph.js";

const pause = (milliseconds) => new Promise((resume) => setTimeout(resume, milliseconds));

async function renew(element, address) {
  try {
    const response = await fetch(address, { redirect: "error" });
    if (response.ok) become(element, await response.text());
  } catch {
    // the service is away: the next time asks again
  }
}

// every so many milliseconds, while somebody looks
export function renewEvery(milliseconds, element, address) {
  setInterval(() => { if (!document.hidden) renew(element, address); }, milliseconds);
}

// A function that asks for a renewal. One runs at a time, `wait` milliseconds apart; of the events that come meanwhile,
// one more shows them all. It begins after that time, so that a burst of events is one renewal, or at once.
export function renewals(element, address, { wait, atOnce = false }) {
  let busy = false;
  let again = false;
  return async function ask() {
    again = true;
    if (busy) return;
    busy = true;
    while (again) {
      if (!atOnce) await pause(wait);
      again = false;
      await renew(element, address);
      if (atOnce) await pause(wait);
    }
    busy = false;
  };
}
