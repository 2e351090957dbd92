// Uploads with progress, and deletes. What is wrong with a file, the service says, down to the line.
import { say } from "./notice.js";

const form = document.getElementById("upload");
const bar = form.querySelector("progress");
const button = form.querySelector("button");

// fetch tells nothing of how far an upload is
function send(body) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", "/datasets");
    request.responseType = "json";
    request.upload.onprogress = (event) => { if (event.lengthComputable) bar.value = event.loaded / event.total; };
    request.upload.onload = () => bar.removeAttribute("value"); // it has come, and is being checked
    request.onload = () => resolve(request);
    request.onerror = reject;
    request.send(body);
  });
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  say("");
  const body = new FormData();
  const name = form.elements.name.value.trim();
  if (name) body.append("name", name);
  body.append("file", form.elements.file.files[0]);
  button.disabled = true;
  bar.value = 0;
  bar.hidden = false;
  try {
    const { status, response } = await send(body);
    if (status === 200 || status === 201) return location.assign("/ui/datasets");
    say([response?.detail ?? `The service answers ${status}.`, ...(response?.errors ?? []).map((error) => error.detail)]
      .filter((text, place, all) => all.indexOf(text) === place).join(" · "));
  } catch {
    say("The service does not answer.");
  }
  bar.hidden = true;
  button.disabled = false;
});

document.querySelector("table.datasets").addEventListener("click", async (event) => {
  const button = event.target.closest("[data-delete]");
  if (!button || !confirm(`Delete the data set ${button.dataset.delete}?`)) return;
  button.disabled = true;
  say("");
  try {
    const response = await fetch(`/datasets/${button.closest("tr").dataset.id}`, { method: "DELETE" });
    if (response.ok) return location.reload();
    say((await response.json()).detail);
  } catch {
    say("The service does not answer.");
  }
  button.disabled = false;
});
