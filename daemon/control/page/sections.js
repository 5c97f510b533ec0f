/* What is shown, made anew from the status document each time; morph() changes
   only what differs. */

const SPANS = ["1h", "6h", "24h"];

/* Queues whose curves are shown large; null: not chosen yet. */
let opened = null;

function section(id, title, ...content) {
	return h("section", {"data-key": id, "aria-labelledby": "h-" + id},
	    h("h2", {id: "h-" + id}, title), content);
}

/* columns: [title, class]; rows: [key, [cells], attributes].  Roles are said
   because narrow screens show rows as blocks, which would lose them. */
function table(label, columns, rows) {
	return h("div", {class: "wide"}, h("table", {role: "table", "aria-label": label},
	    h("thead", {role: "rowgroup"}, h("tr", {role: "row"},
		columns.map(([title, kind]) => h("th", {role: "columnheader", scope: "col", class: kind}, title)))),
	    h("tbody", {role: "rowgroup"}, rows.map(([name, cells, more]) =>
		h("tr", Object.assign({role: "row", "data-key": name}, more), cells.map((c, i) => h(i === 0 ? "th" : "td",
		    {role: i === 0 ? "rowheader" : "cell", scope: i === 0 ? "row" : null, class: columns[i][1],
			"data-label": columns[i][0]}, c)))))));
}

/* ---- what is wrong ---- */

/* Worst first. */
const RANKS = ["down", "critical", "degraded", "firing", "warning"];

function problemsOf(s) {
	const list = [];
	for (const c of s.checks || []) {
		if (["down", "degraded", "warning"].includes(c.status)) {
			list.push({word: c.status, rank: c.status, name: c.name, text: c.detail, since: c.since});
		}
	}
	for (const a of s.alerts || []) {
		if (a.state === "firing" && !a.silenced) {
			list.push({word: a.severity === "critical" ? "critical" : "firing",
				rank: a.severity === "critical" ? "critical" : "firing",
				name: a.name + (a.subject ? " / " + a.subject : ""),
				text: a.when + ", it is " + valueText(a.value) + (a.text ? ". " + a.text : ""),
				since: a.since, runbook: a.runbook});
		}
	}
	for (const [name, x] of Object.entries(s.sinks || {})) {
		if (x.failing) {
			list.push({word: "warning", rank: "warning", name: "sink:" + name,
				text: x.failing_means + (x.last_error ? ": " + x.last_error.text : ""),
				since: x.last_error ? x.last_error.at : null});
		}
	}
	return list.sort((a, b) => RANKS.indexOf(a.rank) - RANKS.indexOf(b.rank));
}

function valueText(value) {
	return value === null || value === undefined ? "not known" : typeof value === "number" ? number(value) :
	    value === true ? "yes" : value === false ? "no" : String(value);
}

/* A link from a configuration: only where browsers go by themselves. */
function runbook(url) {
	return typeof url === "string" && /^https?:\/\//.test(url) ?
	    [" ", h("a", {href: url, rel: "noreferrer"}, "what to do")] : null;
}

function problems(s) {
	const list = problemsOf(s);
	if (list.length === 0) {
		return h("p", {class: "fine"}, s.status === "ok" ? "Nothing is wrong." :
		    s.status === "starting" ? "It is starting: not everything has come up yet." :
		    s.status === "draining" ? "It is stopping in order; " + duration(s.drain_seconds_left) + " left at most." :
		    s.status === "standby" ? "It takes nothing until it is promoted (botctl promote)." :
		    "No check says why.");
	}
	return h("ul", {class: "problems"}, list.map(p => h("li", {"data-key": p.name, class: p.word},
	    state(p.word), h("span", {class: "what"}, h("b", null, p.name), " ", p.text, runbook(p.runbook)),
	    since(p.since))));
}

/* ---- the top ---- */

function figure(title, value, more) {
	return h("div", {"data-key": title}, h("dt", null, title), h("dd", null, value,
	    more ? h("span", {class: "faint"}, more) : null));
}

function sum(objects, of) {
	const values = objects.map(of).filter(v => typeof v === "number");
	return values.length ? values.reduce((a, b) => a + b, 0) : null;
}

/* Of all messages of the last minute. */
function errorRate(queues) {
	const rate = sum(queues, q => q.rate_per_second);
	return rate ? sum(queues, q => q.rate_per_second * q.error_rate_percent) / rate : rate === 0 ? 0 : null;
}

function totals(s) {
	const queues = Object.values(s.queues || {}), pools = Object.values(s.pools || {});
	const dead = sum(queues, q => q.dead_backlog);
	return h("dl", {class: "totals"},
	    figure("Backlog", number(s.backlog), s.backlog_complete === false ? " or more" : null),
	    figure("Settled", perSecond(sum(queues, q => q.rate_per_second))),
	    figure("Errors", percent(errorRate(queues))),
	    figure("In flight", number(sum(queues, q => q.in_flight))),
	    figure("Dead letters", number(dead)),
	    figure("Workers busy", number(sum(pools, p => p.busy)), " of " + number(sum(pools, p => p.workers))));
}

function connection(l) {
	const late = Date.now() - l.heard;
	if (late > STALE_MS) {
		return h("span", {class: "state down"}, "no news for " + duration(late / 1000));
	}
	return h("span", {class: "faint"}, l.source && l.source.readyState === 1 ? "live" : "asking every few seconds");
}

function top_(l) {
	const s = l.status, list = problemsOf(s);
	return h("header", {class: "top " + (STATES.includes(s.status) ? s.status : ""), "data-key": "top"},
	    h("div", {class: "headline"},
		h("h1", null, s.instance || "bot-operator"), state(s.status), since(s.since),
		h("span", {class: "connection"}, connection(l))),
	    /* For those who listen: it changes only when something does. */
	    h("p", {class: "heard", role: "status", "aria-live": "polite"}, s.instance + " is " + s.status + ". " +
		list.map(p => p.word + ": " + p.name + ".").join(" ")),
	    problems(s), totals(s));
}

/* ---- queues ---- */

function pausedText(s, name, q) {
	const gates = Object.entries(s.dependencies || {}).filter(([, d]) => d.ok === false &&
	    (d.queues || []).includes(name)).map(([gate]) => gate);
	const words = {
		operator: "by hand: botctl resume " + name,
		rate_limited: "asked for less" + (q.paused_until ? ", until " + clock(new Date(q.paused_until)) : ""),
		check: "it requires " + (gates.join(", ") || "a check") + ", which is down",
		drain: "the operator stops",
		pool: "pool " + q.pool + " cannot work",
	};
	return (q.paused_by || []).map(by => words[by] || by).join("; ");
}

function queueState(s, name, q) {
	const list = [];
	if (q.connected === false) {
		list.push(h("div", null, state("down"), " not connected"), q.error ? h("div", {class: "why"}, q.error.text, " ",
		    since(q.error.since)) : null);
	}
	if (q.paused) {
		list.push(h("div", null, state("paused"), " ", h("span", {class: "why"}, pausedText(s, name, q))));
	}
	return list;
}

function rankOf(s, kind, name) {
	const check = (s.checks || []).find(c => c.name === kind + ":" + name);
	const rank = RANKS.indexOf(check ? check.status : "");
	return rank < 0 ? RANKS.length : rank;
}

function worstFirst(s, kind, objects) {
	return Object.entries(objects || {}).sort(([a], [b]) => rankOf(s, kind, a) - rankOf(s, kind, b) ||
	    a.localeCompare(b));
}

function toggle(name) {
	if (!opened.delete(name)) {
		opened.add(name);
	}
	draw();
}

function queueCells(s, name, q) {
	const ms = q.processing_ms || {}, id = "curves-" + name;
	const values = which => series("queue", name, which);
	return [
		[h("button", {class: "name", "aria-expanded": String(opened.has(name)), "aria-controls": id,
			onclick: e => toggle(e.currentTarget.getAttribute("data-name")), "data-name": name}, name),
		 " ", h("span", {class: "faint"}, q.type), queueState(s, name, q)],
		[h("b", null, number(q.backlog)), spark(values("backlog"), "backlog", "backlog"),
		 h("span", {class: "faint"}, q.backlog > 0 && q.backlog_age_seconds > 0 ?
		     "oldest " + duration(q.backlog_age_seconds) : "")],
		[h("b", null, perSecond(q.rate_per_second)), spark(values("done_per_second"), "rate", "done a second")],
		[h("b", {class: q.error_rate_percent > 5 ? "bad" : null}, percent(q.error_rate_percent)),
		 spark(values("error_rate_percent"), "errors", "error rate in percent")],
		[h("b", null, milliseconds(ms.p50)), h("span", {class: "faint"}, "p95 " + milliseconds(ms.p95))],
		[h("b", null, number(q.in_flight)), h("span", {class: "faint"}, q.retried ?
		    number(q.retried) + " retried" : "")],
		[h("b", {class: q.dead_backlog > 0 ? "bad" : null}, number(q.dead_backlog))],
	];
}

function curves(name) {
	const d = history("queue", name);
	if (!d) {
		return h("p", {class: "faint"}, "The curves come in a moment.");
	}
	const v = d.series;
	const kinds = ["errors", "backlog", "rate", "p95", "other"];
	const errors = Object.entries(d.errors || {}).slice(0, 5);
	return [
		chart("Backlog", [{name: "backlog", kind: "backlog", values: v.backlog}], d, number),
		chart("Messages a second", [{name: "received", kind: "p95", values: v.received_per_second},
			{name: "done", kind: "rate", values: v.done_per_second},
			{name: "retried", kind: "errors", values: v.retried_per_second}], d, number),
		chart("Error rate in percent", [{name: "errors", kind: "errors", values: v.error_rate_percent}], d, number),
		chart("Processing time in ms", [{name: "p50", kind: "rate", values: v.processing_ms_p50},
			{name: "p95", kind: "p95", values: v.processing_ms_p95}], d, number),
		errors.length ? chart("Errors a second by type", errors.map(([type, values], i) =>
		    ({name: type, kind: kinds[i], values: values})), d, number) : null,
	];
}

function spans() {
	return h("div", {class: "spans", role: "group", "aria-label": "Time of the curves"}, SPANS.map(span =>
	    h("button", {"data-key": span, "aria-pressed": String(live.span === span), onclick: () => setSpan(span)}, span)));
}

function queues(s) {
	const entries = worstFirst(s, "queue", s.queues);
	if (opened === null) {
		opened = new Set(entries.length <= 2 ? entries.map(([name]) => name) : []);
	}
	if (entries.length === 0) {
		return section("queues", "Queues", h("p", null, "There are none."));
	}
	const rows = [];
	for (const [name, q] of entries) {
		rows.push(["q-" + name, queueCells(s, name, q), {"data-history": "queue/" + name, class: "queue"}]);
	}
	const made = table("Queues", [["Queue", ""], ["Backlog", "n"], ["Rate", "n"], ["Errors", "n"], ["Time", "n"],
		["In flight", "n"], ["Dead letters", "n"]], rows);
	for (const [name] of entries.filter(([n]) => opened.has(n))) {
		const row = [...made.querySelectorAll("tr")].find(r => key(r) === "q-" + name);
		row.after(h("tr", {role: "row", class: "curves", id: "curves-" + name, "data-key": "c-" + name,
			"data-history": "queue/" + name},
		    h("td", {role: "cell", colspan: 7}, h("div", {class: "charts"}, curves(name)))));
	}
	return h("section", {"data-key": "queues", "aria-labelledby": "h-queues"},
	    h("div", {class: "bar-title"}, h("h2", {id: "h-queues"}, "Queues"), spans()), made);
}

function errors(s) {
	const rows = [];
	for (const [name, q] of Object.entries(s.queues || {})) {
		for (const [type, n] of Object.entries(q.errors || {})) {
			rows.push({name, type, n});
		}
	}
	rows.sort((a, b) => b.n - a.n);
	if (rows.length === 0) {
		return null;
	}
	return section("errors", "Errors by type", table("Errors by type",
	    [["Type", ""], ["Queue", ""], ["Since the start", "n"], ["Lately", "n"]],
	    rows.slice(0, 50).map(r => ["e-" + r.name + "/" + r.type, [r.type, r.name, number(r.n),
		spark((history("queue", r.name) || {errors: {}}).errors[r.type], "errors", r.type)]])));
}

function deadLetters(s) {
	const rows = Object.entries(s.queues || {}).filter(([, q]) => q.dead > 0 || q.dead_backlog > 0);
	if (rows.length === 0) {
		return null;
	}
	return section("dead", "Dead letters", table("Dead letters",
	    [["Queue", ""], ["There now", "n"], ["Since the start", "n"], ["To see them", ""]],
	    rows.map(([name, q]) => ["d-" + name, [name, number(q.dead_backlog), number(q.dead),
		h("code", null, "botctl dead list " + name)]])));
}

/* ---- pools ---- */

function utilisation(p) {
	const x = Math.max(0, Math.min(100, p.utilization_percent || 0));
	return h("svg", {class: "bar", viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true"},
	    h("rect", {class: "track", x: 0, y: 0, width: 100, height: 6}),
	    h("rect", {class: "fill", x: 0, y: 0, width: x, height: 6}));
}

function pools(s) {
	const rows = worstFirst(s, "pool", s.pools).map(([name, p]) => ["p-" + name, [
		[h("b", null, name), p.up === false ? h("div", null, state("down"), " ", h("span", {class: "why"},
		    p.error ? [p.error.text, " ", since(p.error.since)] : "")) : null],
		[h("b", null, number(p.busy) + " of " + number(p.workers)), utilisation(p)],
		[h("b", null, percent(p.utilization_percent)), spark(series("pool", name, "utilization_percent"), "p95",
		    "utilisation in percent")],
		number(p.min) + DASH + number(p.max), number(p.restarts), number(p.crashes), number(p.timeouts)],
	{"data-history": "pool/" + name}]);
	return rows.length === 0 ? null : section("pools", "Workers", table("Pools of workers",
	    [["Pool", ""], ["Busy", "n"], ["In use", "n"], ["From" + DASH + "to", "n"], ["Restarts", "n"], ["Crashes", "n"],
		["Time-outs", "n"]], rows));
}

/* ---- the rest ---- */

function alerts(s) {
	const rows = (s.alerts || []).map(a => ["a-" + a.name + "/" + a.subject, [
		[h("b", null, a.name), " ", a.subject],
		[state(a.silenced ? "silenced" : a.state), " ", a.severity],
		[a.when + ", it is " + valueText(a.value), a.text ? h("div", null, a.text, runbook(a.runbook)) :
		    runbook(a.runbook),
		 (a.lines || []).length ? h("details", null, h("summary", null, "the last lines"),
		    h("ol", {class: "lines"}, a.lines.map(l => h("li", null, at(l.at), " ", l.text)))) : null],
		since(a.since),
		a.silenced ? a.silence : DASH]]);
	return rows.length === 0 ? section("alerts", "Alerts", h("p", {class: "faint"}, "None is firing or about to.")) :
	    section("alerts", "Alerts", table("Alerts",
		[["Alert", ""], ["State", ""], ["When", ""], ["Since", ""], ["Silenced by", ""]], rows));
}

function dependencies(s) {
	const rows = Object.entries(s.dependencies || {}).map(([name, d]) => ["x-" + name, [
		[h("b", null, name), " ", h("span", {class: "faint"}, d.kind)],
		[state(d.status), " ", h("span", {class: "why"}, d.ok ? "" : d.detail)], d.target, since(d.since),
		milliseconds(d.latency_ms), typeof d.days_left === "number" ? d.days_left + " d" : DASH,
		(d.queues || []).join(", ") || DASH]]);
	return rows.length === 0 ? null : section("dependencies", "Dependencies", table("Dependencies",
	    [["Check", ""], ["State", ""], ["Target", ""], ["Since", ""], ["Took", "n"], ["Certificate", "n"],
		["Queues that need it", ""]], rows));
}

/* Whom people are told through. */
function sinks(s) {
	const rows = Object.entries(s.sinks || {}).map(([name, x]) => ["s-" + name, [
		h("b", null, name), state(x.failing ? "warning" : "ok"), number(x.queued), number(x.dropped),
		x.last_error ? [x.last_error.text, " ", at(x.last_error.at)] : DASH]]);
	return rows.length === 0 ? null : section("sinks", "Sinks", table("Sinks",
	    [["Sink", ""], ["State", ""], ["Waiting", "n"], ["Dropped", "n"], ["Last error", "text"]], rows));
}

function about(line) {
	return ["queue", "pool", "check"].filter(k => line[k]).map(k => k + " " + line[k]).join(", ");
}

const LOG_SHOWN = 12;

function logTable(lines) {
	return h("div", {class: "log"}, table("Last warnings and errors",
	    [["At", ""], ["Level", ""], ["About", ""], ["Text", "text"]],
	    lines.map(x => ["l-" + x.seq, [at(x.at), state(x.level), about(x) || DASH, x.text]])));
}

function logLines(l) {
	if (l.log.length === 0) {
		return section("log", "Last warnings and errors", h("p", {class: "faint"}, "None since the start."));
	}
	const lines = l.log.slice().reverse();
	return section("log", "Last warnings and errors", logTable(lines.slice(0, LOG_SHOWN)),
	    lines.length > LOG_SHOWN ? h("details", {"data-key": "older"}, h("summary", null,
		lines.length - LOG_SHOWN + " older ones"), logTable(lines.slice(LOG_SHOWN))) : null);
}

function operator(s) {
	const loop = s.loop || {}, messages = s.messages || {}, total = s.totals || {};
	return h("p", {class: "faint", "data-key": "operator"}, "bot-operator ", s.version, ", up ",
	    duration(s.uptime_seconds), "; done ", number(total.done), ", retried ", number(total.retried), ", dead ",
	    number(total.dead), " since the start; holds ", number(messages.held), " of ",
	    number(messages.max), " messages; longest turn of the loop ", milliseconds(loop.longest_turn_ms), ", ",
	    number(loop.slow_turns), " slow ones.");
}

/* ---- all of it ---- */

const COLOURS = {ok: "#2e8b57", down: "#d0342c", critical: "#d0342c"};

function icon(status) {
	return "data:image/svg+xml," + encodeURIComponent("<svg xmlns='" + SVG + "' viewBox='0 0 16 16'>" +
	    "<circle cx='8' cy='8' r='7' fill='" + (COLOURS[status] || "#d98b00") + "'/></svg>");
}

function show(l) {
	const s = l.status, n = problemsOf(s).length;
	const fresh = h("div", {id: "live", "data-key": "live", class: Date.now() - l.heard > STALE_MS ? "stale" : null},
	    top_(l), h("div", {class: "columns", "data-key": "columns"}, queues(s), pools(s), alerts(s), deadLetters(s),
		errors(s), dependencies(s), sinks(s), logLines(l)), operator(s));
	const old = document.getElementById("live");
	if (old) {
		morph(old, fresh);
	} else {
		document.getElementById("plain").replaceWith(fresh);
	}
	const title = (n ? "(" + n + ") " : "") + s.status + ": " + s.instance;
	if (document.title !== title) {
		document.title = title;
	}
	const link = document.getElementById("icon");
	if (link.getAttribute("href") !== icon(s.status)) {
		link.setAttribute("href", icon(s.status));
	}
}
