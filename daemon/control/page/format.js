/* Numbers and times, for people.  What is not known is a dash, not a zero. */

const DASH = "\u2013";

function number(x) {
	if (typeof x !== "number" || !isFinite(x)) {
		return DASH;
	}
	const size = Math.abs(x);
	if (size >= 1e6) {
		return (x / 1e6).toFixed(size >= 1e8 ? 0 : 1) + "M";
	}
	if (size >= 1e5) {
		return Math.round(x / 1e3) + "k";
	}
	if (Number.isInteger(x) || size >= 100) {
		return Math.round(x).toLocaleString("en-GB").replace(/,/g, "\u202f");
	}
	return x.toFixed(size < 10 ? 2 : 1);
}

function percent(x) {
	return typeof x === "number" ? number(x) + "\u202f%" : DASH;
}

function perSecond(x) {
	return typeof x === "number" ? number(x) + "/s" : DASH;
}

function duration(seconds) {
	if (typeof seconds !== "number" || !isFinite(seconds)) {
		return DASH;
	}
	const s = Math.max(0, Math.round(seconds));
	if (s < 60) {
		return s + "\u202fs";
	}
	if (s < 3600) {
		return Math.floor(s / 60) + "\u202fmin";
	}
	if (s < 86400) {
		return Math.floor(s / 3600) + "\u202fh " + Math.floor(s % 3600 / 60) + "\u202fmin";
	}
	return Math.floor(s / 86400) + "\u202fd " + Math.floor(s % 86400 / 3600) + "\u202fh";
}

function milliseconds(x) {
	if (typeof x !== "number") {
		return DASH;
	}
	return x >= 10000 ? number(x / 1000) + "\u202fs" : number(x) + "\u202fms";
}

/* "14:03:07", with the day when it is not today. */
function clock(date) {
	const time = date.toLocaleTimeString("en-GB");
	return date.toDateString() === new Date().toDateString() ? time :
	    date.toLocaleDateString("sv-SE") + " " + time;
}

/* "for 12 min", and the time itself. */
function since(iso) {
	const date = new Date(iso);
	if (!iso || isNaN(date)) {
		return null;
	}
	return h("time", {class: "faint since", datetime: iso, title: iso},
	    "for " + duration((Date.now() - date) / 1000) + ", since " + clock(date));
}

function at(iso) {
	const date = new Date(iso);
	return !iso || isNaN(date) ? DASH : h("time", {datetime: iso, title: iso}, clock(date));
}

/* A coloured word.  The colour is never all that tells: the word does. */
const STATES = ["ok", "degraded", "starting", "draining", "standby", "down", "warning", "pending", "firing", "resolved",
	"error", "critical", "paused", "silenced"];

function state(word) {
	return h("span", {class: "state " + (STATES.includes(word) ? word : "")}, word || DASH);
}
