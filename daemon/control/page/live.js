/* Where the figures come from: server-sent events, and asking again and again
   where they cannot be had (too many listen, an old proxy). */

const live = {
	status: null,
	log: [],
	histories: new Map(),	/* "queue/NAME" -> {asked, document} */
	visible: new Set(),
	span: "1h",
	source: null,
	heard: 0,		/* when anything last came */
	asking: false,
};

const STALE_MS = 15000;

function addLog(lines) {
	const seen = new Set(live.log.map(l => l.seq));
	/* Numbers begin anew with a restart. */
	if (lines.length > 0 && live.log.length > 0 && lines[lines.length - 1].seq < live.log[live.log.length - 1].seq) {
		live.log = [];
		seen.clear();
	}
	live.log = live.log.concat(lines.filter(l => !seen.has(l.seq))).slice(-50);
}

function hear(status) {
	if (live.status && live.status.started !== status.started) {
		live.log = [];
		live.histories.clear();
	}
	live.status = status;
	live.heard = Date.now();
	draw();
	askHistories();
}

function listen() {
	if (live.source) {
		live.source.close();
	}
	live.source = new EventSource("/events");
	live.source.addEventListener("status", e => hear(JSON.parse(e.data)));
	live.source.addEventListener("log", e => {
		addLog(JSON.parse(e.data));
		live.heard = Date.now();
		draw();
	});
	live.source.addEventListener("error", () => draw());
}

async function getJson(path) {
	const answer = await fetch(path, {cache: "no-store"});
	/* The status document comes with 503 while it is down. */
	if (!(answer.headers.get("Content-Type") || "").startsWith("application/json")) {
		throw new Error(path + ": " + answer.status);
	}
	return answer.json();
}

async function ask() {
	if (live.asking) {
		return;
	}
	live.asking = true;
	try {
		addLog(await getJson("/log.json"));
		hear(await getJson("/.well-known/engine-status"));
	} catch (e) {
		draw();
	}
	live.asking = false;
}

/* The curves on the screen, one after the other, each when a step is over. */
let historiesRun = false;

async function askHistories() {
	if (historiesRun) {
		return;
	}
	historiesRun = true;
	for (const name of live.visible) {
		const entry = live.histories.get(name) || {asked: 0, document: null};
		const wait = 1000 * Math.max(10, entry.document ? entry.document.step_seconds : 0);
		if (Date.now() - entry.asked < wait) {
			continue;
		}
		entry.asked = Date.now();
		live.histories.set(name, entry);
		const slash = name.indexOf("/");
		try {
			entry.document = cropped(await getJson("/history.json?" + name.slice(0, slash) + "=" +
			    encodeURIComponent(name.slice(slash + 1)) + "&span=" + live.span));
			draw();
		} catch (e) {
			entry.document = null;
		}
	}
	historiesRun = false;
}

/* Without the time before there was anything: after a restart a curve is to be
   seen at once. */
const LEAST_POINTS = 12;

function cropped(d) {
	const all = [...Object.values(d.series), ...Object.values(d.errors || {})];
	const firsts = all.map(a => a.findIndex(v => v !== null)).filter(i => i >= 0);
	const from = Math.max(0, Math.min(firsts.length ? Math.min(...firsts) : 0, d.points - LEAST_POINTS));
	const cut = o => Object.fromEntries(Object.entries(o || {}).map(([name, a]) => [name, a.slice(from)]));
	return Object.assign({}, d, {
		from: new Date(new Date(d.until) - (d.points - from) * d.step_seconds * 1000).toISOString(),
		points: d.points - from, series: cut(d.series), errors: cut(d.errors),
	});
}

function history(of, name) {
	const entry = live.histories.get(of + "/" + name);
	return entry ? entry.document : null;
}

function series(of, name, which) {
	const document_ = history(of, name);
	return document_ ? document_.series[which] : null;
}

function setSpan(span) {
	live.span = span;
	live.histories.clear();
	draw();
	askHistories();
}

const watcher = new IntersectionObserver(entries => {
	for (const e of entries) {
		const name = e.target.getAttribute("data-history");
		if (e.isIntersecting) {
			live.visible.add(name);
		} else {
			live.visible.delete(name);
		}
	}
	askHistories();
}, {rootMargin: "200px"});

/* Once a frame, whatever came. */
let drawing = false;

function draw() {
	if (drawing || !live.status) {
		return;
	}
	drawing = true;
	requestAnimationFrame(() => {
		drawing = false;
		show(live);
		const there = new Set();
		for (const row of document.querySelectorAll("[data-history]")) {
			there.add(row.getAttribute("data-history"));
			watcher.observe(row);
		}
		for (const name of live.visible) {
			if (!there.has(name)) {
				live.visible.delete(name);
			}
		}
	});
}

/* A page that nobody sees keeps no connection: browsers have few of them. */
document.addEventListener("visibilitychange", () => {
	if (document.hidden) {
		live.source.close();
		live.source = null;
	} else {
		listen();
	}
});

setInterval(() => {
	if (document.hidden) {
		return;
	}
	if (!live.source || live.source.readyState === EventSource.CLOSED) {
		ask();
		/* And now and then the better way. */
		if (Math.random() < 0.2) {
			listen();
		}
	}
	draw();
}, 2500);

listen();
