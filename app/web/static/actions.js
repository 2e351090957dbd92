// Buttons that do something to what a page is about, by the public API: `data-action` names one of `actions`, each with
// a method, a path below `base`, what comes then, and a question where it cannot be undone.
import { say } from "./notice.js";

export function act(element, base, actions) {
  element.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-action]");
    if (!button) return;
    const action = actions[button.dataset.action];
    if (action.ask && !confirm(action.ask)) return;
    button.disabled = true;
    try {
      const response = await fetch(`${base}${action.path}`, { method: action.method });
      if (response.ok) return action.then();
      say((await response.json()).detail);
    } catch {
      say("The service does not answer.");
    }
    button.disabled = false;
  });
}
