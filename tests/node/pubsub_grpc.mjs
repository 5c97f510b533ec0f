/*
 * pubsub_grpc.mjs - the gRPC face: Publisher and Subscriber of google.pubsub.v1
 * with the public protos that Google's client brings along.
 */
import { createRequire } from "node:module";
import path from "node:path";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";
import { ACK_BYTES, DEADLINE_MIN, Status, checkDeadline, code, invalid } from "./pubsub_world.mjs";
import { decodeAckRequest, encodeConfirmation, encodeProperties, encodeReceived, encodeStatus, parseAckId }
	from "./pubsub_wire.mjs";

const PULL_WAIT_MS = 90000;

function load() {
	const { resolve } = createRequire(import.meta.url);
	const protos = (name) => path.join(path.dirname(resolve(name)), "../protos");

	return loader.loadSync("google/pubsub/v1/pubsub.proto", { longs: Number, enums: String, defaults: true,
		includeDirs: [protos("@google-cloud/pubsub"), protos("google-gax")] });
}

export function serviceError(e) {
	const error = { code: e.code ?? code.INTERNAL, details: e.message ?? "", metadata: new grpc.Metadata() };

	if (e.reason)
		error.metadata.set("grpc-status-details-bin", encodeStatus(error.code, error.details, e.reason, e.metadata));
	return error;
}

/* A StreamingPull. */
class Stream {
	constructor(call, subscription, first) {
		const limit = (n) => n > 0 ? n : Infinity;

		this.call = call;
		this.subscription = subscription;
		this.clientId = first.clientId;
		this.maxMessages = limit(first.maxOutstandingMessages);
		this.maxBytes = limit(first.maxOutstandingBytes);
		this.leaseMs = first.streamAckDeadlineSeconds * 1000;
		this.keepAlives = first.protocolVersion >= 1;
		this.outstanding = this.bytes = this.requests = 0;
		this.blocked = this.ended = false;
		call.on("drain", () => {
			this.blocked = false;
			subscription.kick();
		});
		subscription.streams.add(this);
	}

	room() {
		return this.blocked || this.ended || this.bytesLeft() <= 0 ? 0 : this.maxMessages - this.outstanding;
	}

	bytesLeft() {
		return this.maxBytes - this.bytes;
	}

	write(buffer) {
		if (!this.ended && !this.call.write(buffer))
			this.blocked = true;
	}

	send(entries) {
		this.write(encodeReceived(this.subscription.prefix, entries, this.subscription.attempts > 0,
			this.subscription.properties));
	}

	sendProperties() {
		this.write(encodeProperties(this.subscription.properties));
	}

	/* Its leases last until they run out. */
	end() {
		this.ended = true;
		this.subscription.streams.delete(this);
	}

	fail(status) {
		if (!this.ended) {
			this.end();
			this.call.emit("error", serviceError(status));
		}
	}

	finish() {
		if (!this.ended) {
			this.end();
			this.call.end();
		}
	}

	look() {
		return { client_id: this.clientId, outstanding: this.outstanding, bytes: this.bytes, requests: this.requests,
			lease_ms: this.leaseMs, max_messages: this.maxMessages === Infinity ? 0 : this.maxMessages,
			max_bytes: this.maxBytes === Infinity ? 0 : this.maxBytes };
	}

	/* A further request. */
	more(r) {
		const s = this.subscription;

		this.requests++;
		if (r.subscription || r.maxOutstandingMessages || r.maxOutstandingBytes || r.protocolVersion)
			throw invalid("subscription, max_outstanding_messages, max_outstanding_bytes and protocol_version " +
				"must be set on the initial StreamingPullRequest only.");
		if (r.streamAckDeadlineSeconds) {
			checkDeadline(r.streamAckDeadlineSeconds, DEADLINE_MIN);
			this.leaseMs = r.streamAckDeadlineSeconds * 1000;
		}
		if (r.modifyDeadlineSeconds.length !== r.modifyDeadlineAckIds.length)
			throw invalid("modify_deadline_seconds and modify_deadline_ack_ids must be of the same length.");
		for (const seconds of r.modifyDeadlineSeconds)
			checkDeadline(seconds, 0);
		this.inStream(5, r.ackIds, (is) => s.ack(is.seq, is.lease));
		this.inStream(3, r.modifyDeadlineAckIds, (is, i) => s.modify(is.seq, is.lease, r.modifyDeadlineSeconds[i]));
		if (this.keepAlives && !r.ackIds.length && !r.modifyDeadlineAckIds.length)
			this.write(Buffer.alloc(0));
	}

	inStream(number, ids, act) {
		const good = [], bad = [], temporary = [];

		ids.forEach((id, i) => {
			const is = parseAckId(this.subscription.prefix, Buffer.from(id, "latin1"));
			const wrong = is ? act(is, i) : "PERMANENT_FAILURE_INVALID_ACK_ID";

			(!wrong ? good : wrong.startsWith("TRANSIENT") ? temporary : bad).push(id);
		});
		if (ids.length && this.subscription.properties.exactlyOnce)
			this.write(encodeConfirmation(number, good, bad, temporary));
	}
}

export class Service {
	constructor(world, faults) {
		this.world = world;
		this.faults = faults;
		this.streams = new Set();
		this.server = new grpc.Server({ "grpc.max_receive_message_length": -1, "grpc.max_send_message_length": -1,
			"grpc.max_concurrent_streams": 1000 });
		const definition = load();
		const subscriber = definition["google.pubsub.v1.Subscriber"];
		const raw = (buffer) => buffer;

		subscriber.StreamingPull.responseSerialize = subscriber.Pull.responseSerialize = raw;
		subscriber.Acknowledge.requestDeserialize = subscriber.ModifyAckDeadline.requestDeserialize = raw;
		this.server.addService(definition["google.pubsub.v1.Publisher"], this.unary({
			CreateTopic: (r) => world.createTopic(r),
			GetTopic: (r) => world.topic(r.topic).config,
			DeleteTopic: (r) => world.deleteTopic(r.topic),
			Publish: (r) => ({ messageIds: world.publish(r.topic, r.messages) }),
		}));
		this.server.addService(subscriber, { ...this.unary({
			CreateSubscription: (r) => world.createSubscription(r),
			GetSubscription: (r) => world.subscription(r.subscription).config,
			UpdateSubscription: (r) => world.updateSubscription(r.subscription,
				r.updateMask?.paths?.map((p) => p.replace(/_([a-z])/g, (_, c) => c.toUpperCase())) ?? []),
			DeleteSubscription: (r) => world.deleteSubscription(r.subscription),
			Pull: (r, call) => this.pull(r, call),
			Acknowledge: (b) => this.settle(b, 2, 0),
			ModifyAckDeadline: (b) => this.settle(b, 4, 1),
		}), StreamingPull: (call) => this.streamingPull(call) });
	}

	listen(port, credentials) {
		return new Promise((resolve, reject) => this.server.bindAsync(`127.0.0.1:${port}`, credentials, (e, bound) => {
			this.address = `127.0.0.1:${bound}`;
			return e ? reject(e) : resolve(bound);
		}));
	}

	drain(ms) {
		this.server.drain(this.address, ms);
	}

	unary(methods) {
		const handlers = {};

		for (const [name, act] of Object.entries(methods))
			handlers[name] = (call, callback) => {
				this.answer(name, act, call).then((r) => {
					if (r !== undefined)
						callback(null, r);
				}, (e) => callback(serviceError(e)));
			};
		return handlers;
	}

	/* undefined: nothing is answered. */
	async answer(name, act, call) {
		const fault = this.faults.meet(name, call.metadata);

		if (fault && !fault.after) {
			if (fault.stall)
				return undefined;
			throw fault.status;
		}
		const value = await act(call.request, call) ?? {};

		if (fault && !fault.stall)
			throw fault.status;
		return fault ? undefined : value;
	}

	settle(buffer, idField, modifies) {
		const found = [];

		if (buffer.length > ACK_BYTES)
			throw invalid(`Request payload size exceeds the limit: ${ACK_BYTES} bytes.`);
		const r = decodeAckRequest(buffer, idField, (at, length) => found.push(at, length));

		if (!r)
			throw new Status(code.INTERNAL, "The request could not be parsed.");
		const s = this.world.subscription(r.subscription);
		const ids = [];

		if (modifies)
			checkDeadline(r.seconds, 0);
		for (let i = 0; i < found.length; i += 2)
			ids.push({ is: parseAckId(s.prefix, buffer, found[i], found[i + 1]),
				id: () => buffer.toString("latin1", found[i], found[i] + found[i + 1]) });
		this.world.settle(s, ids, modifies ? (is) => s.modify(is.seq, is.lease, r.seconds) :
			(is) => s.ack(is.seq, is.lease));
	}

	async pull(r, call) {
		const s = this.world.subscription(r.subscription);

		return encodeReceived(s.prefix, await this.taken(s, r, call), s.attempts > 0, null);
	}

	/* Waits for the first message, unless told not to. */
	taken(s, { maxMessages, returnImmediately }, call) {
		if (!(maxMessages > 0))
			throw invalid("max_messages must be greater than 0.");
		return new Promise((resolve) => {
			const timer = setTimeout(() => pull.answer([]), returnImmediately ? 5 : PULL_WAIT_MS);
			const pull = { max: Math.min(maxMessages, 1000), leaseMs: s.config.ackDeadlineSeconds * 1000,
				bytesLeft: () => Infinity, outstanding: 0, bytes: 0, done: false,
				answer: (entries) => {
					clearTimeout(timer);
					pull.done = true;
					resolve(entries);
				} };

			call?.on("cancelled", () => pull.done || pull.answer([]));
			s.pulls.push(pull);
			s.kick();
		});
	}

	streamingPull(call) {
		let stream = null, failed = false;
		const fail = (e) => {
			failed = true;
			if (stream)
				stream.fail(e);
			else
				call.emit("error", serviceError(e));
		};

		call.on("data", (r) => {
			if (failed)
				return;
			try {
				if (stream)
					stream.more(r);
				else
					stream = this.open(call, r);
			} catch (e) {
				fail(e);
			}
		});
		const end = () => {
			if (stream) {
				stream.end();
				this.streams.delete(stream);
			}
		};
		call.on("end", () => {
			end();
			if (!failed)
				call.end();
		});
		call.on("cancelled", end);
		call.on("error", end);
	}

	/* null: it is never answered. */
	open(call, r) {
		const fault = this.faults.meet("StreamingPull", call.metadata);

		if (fault?.stall)
			return { more() {}, end() {}, fail: (e) => call.emit("error", serviceError(e)) };
		if (fault)
			throw fault.status;
		const s = this.world.subscription(r.subscription);

		checkDeadline(r.streamAckDeadlineSeconds, DEADLINE_MIN);
		if (r.ackIds.length || r.modifyDeadlineAckIds.length)
			throw invalid("The initial StreamingPullRequest cannot acknowledge anything.");
		const stream = new Stream(call, s, r);

		this.streams.add(stream);
		call.sendMetadata(new grpc.Metadata());
		s.kick();
		return stream;
	}
}
