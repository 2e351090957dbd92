// The page's one line for what just happened, or what is wrong.
const notice = document.getElementById("notice");

export function say(text) {
  notice.textContent = text;
  notice.hidden = !text;
}
