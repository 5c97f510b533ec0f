"use strict";
/* Elements and how they change.  Nothing here knows what is shown. */

/* h("td", {class: "n"}, "text", [more], element): attributes that are null or
   false are left out; children that are null as well. */
const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "path", "line", "rect", "text", "circle", "title", "g"]);

function h(tag, attributes, ...children) {
	const e = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
	for (const [name, value] of Object.entries(attributes || {})) {
		if (name === "onclick") {
			e.addEventListener("click", value);
		} else if (value !== null && value !== undefined && value !== false) {
			e.setAttribute(name, value === true ? "" : String(value));
		}
	}
	append(e, children);
	return e;
}

function append(e, children) {
	for (const child of children) {
		if (Array.isArray(child)) {
			append(e, child);
		} else if (child !== null && child !== undefined && child !== false) {
			e.append(child);
		}
	}
}

function key(node) {
	return node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") : null;
}

/* Makes the old tree look like the new one and keeps what is the same, so that
   focus, selection, scrolling and open details survive. */
function morph(old, fresh) {
	if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || key(old) !== key(fresh)) {
		old.replaceWith(fresh);
		return;
	}
	if (old.nodeType === Node.TEXT_NODE) {
		if (old.data !== fresh.data) {
			old.data = fresh.data;
		}
		return;
	}
	morphAttributes(old, fresh);
	morphChildren(old, fresh);
}

function morphAttributes(old, fresh) {
	for (const a of fresh.attributes) {
		if (old.getAttribute(a.name) !== a.value) {
			old.setAttribute(a.name, a.value);
		}
	}
	for (const a of [...old.attributes]) {
		/* The reader opened it. */
		if (!fresh.hasAttribute(a.name) && !(a.name === "open" && old.nodeName === "DETAILS")) {
			old.removeAttribute(a.name);
		}
	}
}

function morphChildren(old, fresh) {
	const named = new Map();
	for (const child of old.children) {
		if (key(child) !== null) {
			named.set(key(child), child);
		}
	}
	let at = old.firstChild;
	for (const next of [...fresh.childNodes]) {
		const same = key(next) !== null ? named.get(key(next)) : null;
		if (same && same !== at) {
			old.insertBefore(same, at);
			morph(same, next);
		} else if (at && (same || (key(at) === null && key(next) === null))) {
			const after = at.nextSibling;
			morph(at, next);
			at = after;
		} else {
			old.insertBefore(next, at);
		}
	}
	while (at) {
		const after = at.nextSibling;
		at.remove();
		at = after;
	}
}
