// The first page of jobs renews its rows while it is looked at.
const table = document.querySelector("table[data-live]");

async function renew() {
  if (document.hidden) return;
  const url = new URL(location.href);
  url.searchParams.set("fragment", "true");
  try {
    const response = await fetch(url, { redirect: "error" });
    if (response.ok) table.tBodies[0].innerHTML = await response.text();
  } catch {
    // the service is away; the next turn tries again
  }
}

if (table) setInterval(renew, 3000);
