/*
 * pubsub_faults.mjs - what a test wants to go wrong, and what was asked so far.
 */
import { Status, code } from "./pubsub_world.mjs";

/* { code: a name or number, or "STALL"; message, reason, metadata, times (-1: always), after } */
class Fault {
	constructor({ code: name, message, reason, metadata, times, after }) {
		const number = typeof name === "number" ? name : code[name];

		this.stall = name === "STALL";
		if (!this.stall && !(number >= 0))
			throw new Error(`no such status: ${name}`);
		this.status = new Status(number, message ?? `injected ${name}`, reason, metadata);
		this.times = times ?? 1;
		this.after = !!after;		/* it is done, only the answer is lost */
	}
}

export class Faults {
	constructor() {
		this.rules = new Map();		/* method or "*" */
		this.calls = {};
		this.headers = {};
		this.authorization = null;	/* what every call must bring */
	}

	inject(rule) {
		this.rules.set(rule.method, new Fault(rule));
	}

	/* The fault that this call meets, or null. */
	meet(method, metadata) {
		const name = this.rules.has(method) ? method : "*";
		const fault = this.rules.get(name);

		this.calls[method] = (this.calls[method] ?? 0) + 1;
		this.headers[method] = metadata;
		if (this.authorization !== null && metadata.get("authorization")[0] !== this.authorization)
			throw new Status(code.UNAUTHENTICATED, "Request had invalid authentication credentials. Expected OAuth 2 " +
				"access token, login cookie or other valid authentication credential.");
		if (!fault)
			return null;
		if (fault.times > 0 && --fault.times === 0)
			this.rules.delete(name);
		return fault;
	}

	look() {
		return { calls: this.calls, headers: Object.fromEntries(Object.entries(this.headers).map(([k, v]) =>
			[k, v.getMap()])) };
	}
}
