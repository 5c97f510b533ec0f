/*
 * pubsub_rest.mjs - the REST face, as far as tests use it (the same requests go
 * to Google's emulator); Cloud Monitoring's backlog; and POST /fake, which has
 * {"do": ...} for what only a fake can do.
 */
import http from "node:http";
import { Status, code, invalid } from "./pubsub_world.mjs";
import { parseAckId, ackId } from "./pubsub_wire.mjs";

const HTTP_OF = { 3: 400, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 10: 409, 12: 501, 13: 500, 14: 503, 16: 401 };
const NAME_OF = Object.fromEntries(Object.entries(code).map(([k, v]) => [v, k]));

function duration(text) {
	const m = /^(\d+)(?:\.(\d{1,9}))?s$/.exec(text);

	if (!m)
		throw invalid(`Invalid value (Field: 'duration'), "${text}"`);
	return { seconds: Number(m[1]), nanos: Number((m[2] ?? "0").padEnd(9, "0")) };
}

/* A Subscription's JSON to the form that gRPC gives, and back. */
function fromJson(s) {
	const out = { ...s };

	for (const k of ["messageRetentionDuration"])
		if (s[k])
			out[k] = duration(s[k]);
	if (s.retryPolicy)
		out.retryPolicy = Object.fromEntries(Object.entries(s.retryPolicy).map(([k, v]) => [k, duration(v)]));
	return out;
}

function toJson(s) {
	return JSON.parse(JSON.stringify(s, (k, v) => v && typeof v === "object" && "seconds" in v ?
		`${v.seconds}${v.nanos ? "." + String(v.nanos).padStart(9, "0") : ""}s` : v ?? undefined));
}

export class Rest {
	constructor(service) {
		this.service = service;
		this.world = service.world;
		this.faults = service.faults;
		this.server = http.createServer((req, res) => this.request(req, res));
		this.server.keepAliveTimeout = 60000;
	}

	listen(port) {
		return new Promise((resolve) => this.server.listen(port, "127.0.0.1", () =>
			resolve(this.server.address().port)));
	}

	async request(req, res) {
		let status = 200, value;

		try {
			const parts = [];

			for await (const part of req)
				parts.push(part);
			const text = Buffer.concat(parts).toString();

			value = await this.route(req.method, new URL(req.url, "http://localhost"), text ? JSON.parse(text) : {});
		} catch (e) {
			const number = e instanceof Status ? e.code : code.INTERNAL;

			status = HTTP_OF[number] ?? 500;
			value = { error: { code: status, message: e instanceof Status ? e.message : e.stack, status: NAME_OF[number] } };
		}
		res.writeHead(status, { "Content-Type": "application/json" });
		res.end(JSON.stringify(value ?? {}));
	}

	route(method, url, body) {
		const m = /^\/v1\/(projects\/[^/]+\/(topics|subscriptions)\/[^/:]+)(?::(\w+))?$/.exec(decodeURIComponent(url.pathname));

		if (method === "POST" && url.pathname === "/fake")
			return this.fake(body);
		if (method === "GET" && /^\/v3\/projects\/[^/]+\/timeSeries$/.test(url.pathname))
			return this.monitoring(url);
		const act = m && this[`${method} ${m[2]}${m[3] ? ":" + m[3] : ""}`];

		if (!act)
			throw new Status(code.NOT_FOUND, `${method} ${url.pathname} is not known here`);
		return act.call(this, m[1], body);
	}

	"PUT topics"(name, body) {
		return this.world.createTopic({ ...body, name });
	}

	"GET topics"(name) {
		return this.world.topic(name).config;
	}

	"DELETE topics"(name) {
		this.world.deleteTopic(name);
	}

	"POST topics:publish"(name, { messages = [] }) {
		return { messageIds: this.world.publish(name, messages.map((m) => ({ ...m, data: Buffer.from(m.data ?? "", "base64") }))) };
	}

	"PUT subscriptions"(name, body) {
		return toJson(this.world.createSubscription(fromJson({ ...body, name })));
	}

	"GET subscriptions"(name) {
		return toJson(this.world.subscription(name).config);
	}

	"PATCH subscriptions"(name, { subscription, updateMask = "" }) {
		return toJson(this.world.updateSubscription(fromJson({ ...subscription, name }), updateMask.split(",").filter(Boolean)));
	}

	"DELETE subscriptions"(name) {
		this.world.deleteSubscription(name);
	}

	async "POST subscriptions:pull"(name, { maxMessages, returnImmediately }) {
		const s = this.world.subscription(name);
		const taken = await this.service.taken(s, { maxMessages, returnImmediately });

		return { receivedMessages: taken.map((e) => ({ ackId: ackId(s.prefix, e.seq, e.lease),
			deliveryAttempt: s.attempts ? e.attempts : undefined,
			message: { data: e.message.data.toString("base64"), attributes: e.message.attributes, messageId: e.message.id,
				publishTime: new Date(e.message.time).toISOString(), orderingKey: e.message.key || undefined } })) };
	}

	"POST subscriptions:acknowledge"(name, { ackIds = [] }) {
		const s = this.world.subscription(name);

		this.world.settle(s, this.ids(s, ackIds), (is) => s.ack(is.seq, is.lease));
	}

	"POST subscriptions:modifyAckDeadline"(name, { ackIds = [], ackDeadlineSeconds }) {
		const s = this.world.subscription(name);

		this.world.settle(s, this.ids(s, ackIds), (is) => s.modify(is.seq, is.lease, ackDeadlineSeconds));
	}

	ids(s, list) {
		return list.map((id) => ({ id: () => id, is: parseAckId(s.prefix, Buffer.from(id, "latin1")) }));
	}

	/* One sample of now for num_undelivered_messages or oldest_unacked_message_age. */
	monitoring(url) {
		const filter = url.searchParams.get("filter") ?? "";
		const project = url.pathname.split("/")[3];
		const type = /metric\.type\s*=\s*"([^"]+)"/.exec(filter)?.[1];
		const id = /subscription_id\s*=\s*"([^"]+)"/.exec(filter)?.[1];
		const s = this.world.subscriptions.get(`projects/${project}/subscriptions/${id}`);
		const time = new Date(this.world.clock.wall()).toISOString();

		if (!s)
			return {};
		const oldest = s.entries.values().next().value;
		const value = type.endsWith("/num_undelivered_messages") ? s.entries.size :
			oldest ? Math.floor((this.world.clock.wall() - oldest.message.time) / 1000) : 0;

		return { timeSeries: [{ metric: { type }, resource: { type: "pubsub_subscription",
			labels: { project_id: project, subscription_id: id } }, metricKind: "GAUGE", valueType: "INT64",
			points: [{ interval: { startTime: time, endTime: time }, value: { int64Value: String(value) } }] }] };
	}

	fake(body) {
		const act = this.acts[body.do];

		if (!act)
			throw invalid(`do: one of ${Object.keys(this.acts).join(", ")}`);
		return act(body, body.subscription && this.world.subscription(body.subscription));
	}

	acts = {
		/* Counts of a subscription, or calls and headers of all. */
		look: (_, s) => s ? s.look() : this.faults.look(),
		history: (_, s) => Object.fromEntries(s.history),
		/* n messages whose bodies are of that size. */
		fill: ({ topic, n, size }) => {
			const message = { data: Buffer.alloc(size, "x") };

			for (const t = this.world.topic(topic); n > 0; n--)
				this.world.add(t, message);
		},
		fault: (rule) => this.faults.inject(rule),
		heal: () => {
			this.faults.rules.clear();
			this.faults.authorization = null;
		},
		authorization: ({ value }) => {
			this.faults.authorization = value;
		},
		/* Ends all streams, or those of a subscription. */
		end: ({ code: name, message }, s) => {
			let n = 0;

			for (const stream of [...(s ? s.streams : this.service.streams)]) {
				n++;
				if (name === "OK")
					stream.finish();
				else
					stream.fail(new Status(code[name], message ?? `injected ${name}`));
			}
			return { ended: n };
		},
		/* Nothing is delivered until resume. */
		pause: (_, s) => {
			s.paused = true;
		},
		resume: (_, s) => {
			s.paused = false;
			s.kick();
		},
		revoke: (_, s) => s.revoke(),
		/* The next so many ack ids fail for a while. */
		transient: ({ n, reason }, s) => {
			s.transient = { left: n, reason: reason ?? "TRANSIENT_FAILURE_UNORDERED_ACK_ID" };
		},
		advance: ({ seconds }) => this.world.clock.advance(seconds * 1000),
		/* GOAWAY to all connections, which end after so many ms at the latest. */
		drain: ({ ms }) => this.service.drain(ms),
	};
}
