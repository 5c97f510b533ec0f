/* Curves as SVG.  A null is a gap; a curve starts at zero. */

/* A round number at or over x, so that the scale does not jump about. */
function ceiling(x) {
	if (!(x > 0)) {
		return 1;
	}
	const unit = Math.pow(10, Math.floor(Math.log10(x)));
	return [1, 2, 5, 10].map(n => n * unit).find(n => n >= x) || 10 * unit;
}

function known(values) {
	return values.filter(v => typeof v === "number");
}

/* "M..L.." through the known points; one alone is a short dash. */
function curve(values, width, height, top) {
	const step = values.length > 1 ? width / (values.length - 1) : width;
	let path = "", pen = false;
	values.forEach((v, i) => {
		if (typeof v !== "number") {
			pen = false;
			return;
		}
		const x = (i * step).toFixed(1), y = (height - Math.min(v, top) / top * height).toFixed(1);
		const alone = !pen && typeof values[i + 1] !== "number";
		path += (pen ? "L" : "M") + x + " " + y + (alone ? "h1" : "");
		pen = true;
	});
	return path;
}

/* The same, closed at the bottom, for a light fill. */
function area(values, width, height, top) {
	const step = values.length > 1 ? width / (values.length - 1) : width;
	let path = "", start = null;
	values.forEach((v, i) => {
		const x = (i * step).toFixed(1);
		if (typeof v === "number") {
			const y = (height - Math.min(v, top) / top * height).toFixed(1);
			path += start === null ? "M" + x + " " + height + "L" + x + " " + y : "L" + x + " " + y;
			start = start === null ? x : start;
			if (typeof values[i + 1] !== "number") {
				path += "L" + x + " " + height + "Z";
				start = null;
			}
		}
	});
	return path;
}

/* In a table's cell: no axes, the title says what it is. */
function spark(values, kind, label) {
	const width = 120, height = 28;
	if (!values || known(values).length === 0) {
		return h("svg", {class: "spark", viewBox: "0 -1 120 30", "aria-hidden": "true"});
	}
	const top = ceiling(Math.max(...known(values)));
	return h("svg", {class: "spark " + kind, viewBox: "0 -1 120 30", preserveAspectRatio: "none", role: "img",
		"aria-label": label + ": highest " + number(Math.max(...known(values)))},
	    h("path", {class: "area", d: area(values, width, height, top)}),
	    h("path", {class: "curve", d: curve(values, width, height, top)}));
}

/* lines: [{name, kind, values}]; with a scale and the times. */
function chart(title, lines, document_, format) {
	const width = 360, height = 110;
	const all = lines.flatMap(l => known(l.values || []));
	const top = ceiling(Math.max(0, ...all));
	const legend = lines.length > 1 ? h("span", {class: "legend"},
	    lines.map(l => h("span", {class: l.kind}, l.name))) : null;
	const figure = h("figure", {class: "chart"}, h("figcaption", null, title, legend));
	if (all.length === 0) {
		append(figure, [h("p", {class: "faint"}, "Nothing known yet.")]);
		return figure;
	}
	append(figure, [
		h("svg", {viewBox: "0 0 " + (width + 44) + " " + (height + 24), role: "img",
			"aria-label": title + ": highest " + format(Math.max(...all))},
		h("g", {transform: "translate(42 6)"},
		    [0, 0.5, 1].map(part => [
			h("line", {class: "grid", x1: 0, x2: width, y1: height * part, y2: height * part}),
			h("text", {class: "tick", x: -5, y: height * part + 3, "text-anchor": "end"},
			    part === 1 ? "0" : format(top * (1 - part)))]),
		    h("text", {class: "tick", x: 0, y: height + 14}, clock(new Date(document_.from)).slice(0, -3)),
		    h("text", {class: "tick", x: width, y: height + 14, "text-anchor": "end"},
			clock(new Date(document_.until)).slice(0, -3)),
		    lines.map(l => h("path", {class: "curve " + l.kind, d: curve(l.values || [], width, height, top)}))))]);
	return figure;
}
