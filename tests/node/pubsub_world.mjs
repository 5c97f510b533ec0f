/*
 * pubsub_world.mjs - topics and subscriptions by their full names, and what
 * the service checks before it does anything.
 */
import { Clock } from "./pubsub_queue.mjs";
import { Subscription } from "./pubsub_subscription.mjs";
import { encodeMessage } from "./pubsub_wire.mjs";

export const code = { OK: 0, CANCELLED: 1, UNKNOWN: 2, INVALID_ARGUMENT: 3, DEADLINE_EXCEEDED: 4, NOT_FOUND: 5,
	ALREADY_EXISTS: 6, PERMISSION_DENIED: 7, RESOURCE_EXHAUSTED: 8, FAILED_PRECONDITION: 9, ABORTED: 10,
	OUT_OF_RANGE: 11, UNIMPLEMENTED: 12, INTERNAL: 13, UNAVAILABLE: 14, DATA_LOSS: 15, UNAUTHENTICATED: 16 };

/* The service's limits. */
const PUBLISH_BYTES = 10485760;
const PUBLISH_MESSAGES = 1000;
const ATTRIBUTES = 100, ATTRIBUTE_KEY = 256, ATTRIBUTE_VALUE = 1024, ORDERING_KEY = 1024;
export const ACK_BYTES = 524288;
export const DEADLINE_MAX = 600, DEADLINE_MIN = 10;

export class Status extends Error {
	/* reason and metadata: an ErrorInfo. */
	constructor(number, message, reason, metadata = {}) {
		super(message);
		Object.assign(this, { code: number, reason, metadata });
	}
}

export function invalid(message) {
	return new Status(code.INVALID_ARGUMENT, message);
}

export function checkDeadline(seconds, least) {
	if (!(seconds >= least && seconds <= DEADLINE_MAX))
		throw invalid(`Invalid ack deadline: ${seconds}. Deadline must be between ${least} and ${DEADLINE_MAX} seconds.`);
}

function checkName(name, kind) {
	const m = /^projects\/([^/]+)\/(topics|subscriptions)\/([^/]+)$/.exec(name);

	if (!m || m[2] !== kind || !/^(?!goog)[A-Za-z][A-Za-z0-9._~+%-]{2,254}$/.test(m[3]))
		throw invalid(`Invalid [${kind}] name: (name=${name})`);
}

export class World {
	constructor() {
		this.clock = new Clock();
		this.topics = new Map();
		this.subscriptions = new Map();
		this.messages = 0;
		this.base = BigInt(Date.now()) * 1000000n;
	}

	find(map, name) {
		const found = map.get(name);

		if (!found)
			throw new Status(code.NOT_FOUND, `Resource not found (resource=${name.split("/").pop()}).`);
		return found;
	}

	topic(name) {
		return this.find(this.topics, name);
	}

	subscription(name) {
		return this.find(this.subscriptions, name);
	}

	createTopic(config) {
		checkName(config.name, "topics");
		if (this.topics.has(config.name))
			throw new Status(code.ALREADY_EXISTS, `Resource already exists in the project (resource=${config.name}).`);
		this.topics.set(config.name, { config, subscriptions: new Set() });
		return config;
	}

	deleteTopic(name) {
		for (const s of this.topic(name).subscriptions)
			s.config.topic = "_deleted-topic_";
		this.topics.delete(name);
	}

	checkSubscription(config) {
		const policy = config.deadLetterPolicy;

		checkDeadline(config.ackDeadlineSeconds, DEADLINE_MIN);
		if (config.filter)
			throw invalid("This server knows no filters.");
		if (config.pushConfig?.pushEndpoint)
			throw invalid("This server does not push.");
		if (!policy)
			return;
		policy.maxDeliveryAttempts ||= 5;
		if (policy.maxDeliveryAttempts < 5 || policy.maxDeliveryAttempts > 100)
			throw invalid("max_delivery_attempts must be between 5 and 100.");
	}

	createSubscription(given) {
		const config = { ...given, ackDeadlineSeconds: given.ackDeadlineSeconds || DEADLINE_MIN, state: "ACTIVE",
			messageRetentionDuration: given.messageRetentionDuration || { seconds: 604800, nanos: 0 } };

		checkName(config.name, "subscriptions");
		this.checkSubscription(config);
		if (this.subscriptions.has(config.name))
			throw new Status(code.ALREADY_EXISTS, `Resource already exists in the project (resource=${config.name}).`);
		const topic = this.topic(config.topic);
		const s = new Subscription(this, config);

		topic.subscriptions.add(s);
		this.subscriptions.set(config.name, s);
		return config;
	}

	/* paths: names as in the JSON form. */
	updateSubscription(given, paths) {
		const s = this.subscription(given.name);
		const config = { ...s.config };

		if (paths.length === 0)
			throw invalid("The update_mask in the UpdateSubscriptionRequest must be set, and must contain a non-empty paths list.");
		for (const path of paths)
			config[path.split(".")[0]] = given[path.split(".")[0]];
		this.checkSubscription(config);
		const changed = !!config.enableExactlyOnceDelivery !== !!s.config.enableExactlyOnceDelivery;

		s.config = config;
		if (changed)
			for (const stream of s.streams)
				stream.sendProperties();
		return config;
	}

	deleteSubscription(name) {
		const s = this.subscription(name);

		this.subscriptions.delete(name);
		this.topics.get(s.config.topic)?.subscriptions.delete(s);
		for (const stream of s.streams)
			stream.fail(new Status(code.NOT_FOUND, `Resource not found (resource=${name.split("/").pop()}).`));
		s.close();
	}

	checkMessages(messages) {
		const bytes = messages.reduce((n, m) => n + (m.data?.length ?? 0) + (m.orderingKey?.length ?? 0) +
			Object.entries(m.attributes ?? {}).reduce((a, [k, v]) => a + k.length + v.length, 0), 0);

		if (bytes > PUBLISH_BYTES)
			throw invalid(`Request payload size exceeds the limit: ${PUBLISH_BYTES} bytes.`);
		if (messages.length === 0)
			throw invalid("The request must contain at least one message.");
		if (messages.length > PUBLISH_MESSAGES)
			throw invalid(`The value for message_count is too large. You passed ${messages.length} in the request, ` +
				`but the maximum value is ${PUBLISH_MESSAGES}.`);
		for (const m of messages) {
			const attributes = Object.entries(m.attributes ?? {});

			if (!m.data?.length && attributes.length === 0)
				throw invalid("Some messages in the publish request are empty: each needs data or attributes.");
			if (attributes.length > ATTRIBUTES || Buffer.byteLength(m.orderingKey ?? "") > ORDERING_KEY ||
			    attributes.some(([k, v]) => k === "" || Buffer.byteLength(k) > ATTRIBUTE_KEY ||
			    Buffer.byteLength(v) > ATTRIBUTE_VALUE))
				throw invalid("Some messages in the publish request have attributes or an ordering key that are too long.");
		}
	}

	/* messages: { data, attributes, orderingKey }.  The ids. */
	publish(name, messages) {
		const topic = this.topic(name);

		this.checkMessages(messages);
		return messages.map((m) => this.add(topic, m));
	}

	add(topic, { data, attributes, orderingKey }) {
		const m = { id: String(this.base + BigInt(++this.messages)), time: this.clock.wall(), data: data ?? Buffer.alloc(0),
			attributes: attributes ?? {}, key: orderingKey ?? "" };

		m.encoded = encodeMessage(m);
		m.size = m.encoded.length;
		for (const s of topic.subscriptions)
			s.add(m);
		return m.id;
	}

	/* false: there is no such topic, so it is tried further. */
	deadLetter(s, e) {
		const [, project, , subscription] = s.config.name.split("/");
		const topic = this.topics.get(s.config.deadLetterPolicy.deadLetterTopic);

		if (!topic)
			return false;
		this.add(topic, { data: e.message.data, orderingKey: e.message.key, attributes: { ...e.message.attributes,
			CloudPubSubDeadLetterSourceDeliveryCount: String(e.attempts),
			CloudPubSubDeadLetterSourceSubscription: subscription,
			CloudPubSubDeadLetterSourceSubscriptionProject: project,
			CloudPubSubDeadLetterSourceTopicPublishTime: new Date(e.message.time).toISOString().replace("Z", "+00:00"),
		} });
		return true;
	}

	/* Acknowledge and ModifyAckDeadline: ids is of { id, is } with is = {seq, lease} or null. */
	settle(s, ids, act) {
		const failed = {};

		if (ids.length === 0)
			throw invalid("No ack ids specified.");
		for (const { id, is } of ids) {
			const wrong = is ? act(is) : "PERMANENT_FAILURE_INVALID_ACK_ID";

			if (wrong)
				failed[id()] = wrong;
		}
		if (Object.keys(failed).length)
			throw new Status(code.INVALID_ARGUMENT, "Some acknowledgement ids in the request were invalid. This could " +
				"be because the acknowledgement ids have expired or the acknowledgement ids were malformed.",
				s.config.enableExactlyOnceDelivery ? "EXACTLY_ONCE_ACKID_FAILURE" : undefined, failed);
	}
}
