// Brings a part of the page to what the service writes now, and touches only what differs: focus, a selection, a
// scroll position and an open menu stay where they are.
//
// Elements are told apart by `data-key` or `id`; those without are matched by their place among their like.

const keyOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.dataset?.key ?? (node.id || null) : null);
const alike = (one, other) => one.nodeType === other.nodeType && one.nodeName === other.nodeName && keyOf(one) === keyOf(other);

const isBlank = (node) => node.nodeType === Node.TEXT_NODE && !node.nodeValue.trim();

function attributes(from, to) {
  for (const { name } of [...from.attributes]) if (!to.hasAttribute(name)) from.removeAttribute(name);
  for (const { name, value } of to.attributes) if (from.getAttribute(name) !== value) from.setAttribute(name, value);
}

function children(from, to) {
  const keyed = new Map();
  for (const child of from.childNodes) if (keyOf(child)) keyed.set(keyOf(child), child);
  const stay = new Set([...to.childNodes].map(keyOf));
  for (const [key, child] of keyed) if (!stay.has(key)) child.remove(); // so that what follows need not move
  let place = from.firstChild;
  for (const wanted of [...to.childNodes]) {
    const known = keyOf(wanted) && keyed.get(keyOf(wanted));
    while (known && place !== known && place && !keyOf(place)) { // removed rather than that what is known moves
      const next = place.nextSibling;
      place.remove();
      place = next;
    }
    while (!known && place && isBlank(place) && wanted.nodeType === Node.ELEMENT_NODE) place = place.nextSibling;
    const found = known && alike(known, wanted) ? known : place && alike(place, wanted) ? place : null;
    if (!found) {
      from.insertBefore(wanted, place);
      continue;
    }
    if (found === place) place = place.nextSibling;
    else from.insertBefore(found, place);
    morph(found, wanted);
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

function morph(from, to) {
  if (from.nodeType !== Node.ELEMENT_NODE) {
    if (from.nodeValue !== to.nodeValue) from.nodeValue = to.nodeValue;
    return;
  }
  if (from.isEqualNode(to)) return;
  attributes(from, to);
  children(from, to);
}

// the children of `element` become those that `html` has
export function become(element, html) {
  const wanted = element.cloneNode(false);
  wanted.innerHTML = html;
  children(element, wanted);
}
