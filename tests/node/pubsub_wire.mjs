/*
 * pubsub_wire.mjs - by hand what goes by in thousands (google/pubsub/v1/
 * pubsub.proto; field numbers are written where they are used), and the
 * details of a status (google/rpc/status.proto, error_details.proto).
 *
 * An acknowledgement id has 164 characters, as Google's: 147 of its
 * subscription, then which message it is and which of its leases.
 */
import { randomBytes } from "node:crypto";

const ACK_PREFIX = 147;
const SEQ_DIGITS = 11;
const LEASE_DIGITS = 6;
export const ACK_ID = ACK_PREFIX + SEQ_DIGITS + LEASE_DIGITS;

export function ackPrefix() {
	return Buffer.from(randomBytes(ACK_PREFIX).toString("base64url").slice(0, ACK_PREFIX), "latin1");
}

function varintSize(n) {
	let size = 1;

	for (; n >= 128; n = Math.floor(n / 128))
		size++;
	return size;
}

function putVarint(buffer, at, n) {
	for (; n >= 128; n = Math.floor(n / 128))
		buffer[at++] = (n % 128) | 128;
	buffer[at++] = n;
	return at;
}

function varint(n) {
	const b = Buffer.alloc(varintSize(n));

	putVarint(b, 0, n);
	return b;
}

/* A field that has a length. */
function field(number, value) {
	const bytes = Buffer.from(value);

	return Buffer.concat([varint(number * 8 + 2), varint(bytes.length), bytes]);
}

/* PubsubMessage. */
export function encodeMessage(m) {
	const seconds = Math.floor(m.time / 1000);
	const parts = [];

	if (m.data.length)
		parts.push(field(1, m.data));
	for (const [key, value] of Object.entries(m.attributes))
		parts.push(field(2, Buffer.concat([field(1, key), field(2, value)])));
	parts.push(field(3, m.id));
	parts.push(field(4, Buffer.concat([varint(8), varint(seconds), varint(16),
		varint(Math.floor((m.time - seconds * 1000) * 1e6))])));
	if (m.key)
		parts.push(field(5, m.key));
	return Buffer.concat(parts);
}

function putDigits(buffer, at, digits, n) {
	for (let i = at + digits - 1; i >= at; i--) {
		buffer[i] = 48 + n % 10;
		n = Math.floor(n / 10);
	}
	return at + digits;
}

export function ackId(prefix, seq, lease) {
	const b = Buffer.allocUnsafe(ACK_ID);

	prefix.copy(b, 0);
	putDigits(b, putDigits(b, ACK_PREFIX, SEQ_DIGITS, seq), LEASE_DIGITS, lease);
	return b.toString("latin1");
}

function digits(buffer, at, n) {
	let value = 0;

	for (let i = at; i < at + n; i++) {
		const d = buffer[i] - 48;

		if (d < 0 || d > 9)
			return -1;
		value = value * 10 + d;
	}
	return value;
}

/* {seq, lease}, or null when it is none of this subscription. */
export function parseAckId(prefix, buffer, at = 0, length = buffer.length) {
	if (length !== ACK_ID || prefix.compare(buffer, at, at + ACK_PREFIX) !== 0)
		return null;
	const seq = digits(buffer, at + ACK_PREFIX, SEQ_DIGITS);
	const lease = digits(buffer, at + ACK_PREFIX + SEQ_DIGITS, LEASE_DIGITS);

	return seq < 0 || lease < 0 ? null : { seq, lease };
}

/*
 * received_messages = 1, the same in StreamingPullResponse and PullResponse;
 * then subscription_properties = 4 when wanted.
 */
export function encodeReceived(prefix, entries, attempts, properties) {
	let size = 0, at = 0;

	for (const e of entries) {
		const body = e.message.encoded.length;

		e.room = 3 + ACK_ID + 1 + varintSize(body) + body + (attempts ? 1 + varintSize(e.attempts) : 0);
		size += 1 + varintSize(e.room) + e.room;
	}
	const tail = properties ? encodeProperties(properties) : null;
	const b = Buffer.allocUnsafe(size + (tail ? tail.length : 0));

	for (const e of entries) {
		const body = e.message.encoded;

		b[at++] = 0x0a;
		at = putVarint(b, at, e.room);
		b[at++] = 0x0a;				/* ack_id */
		at = putVarint(b, at, ACK_ID);
		prefix.copy(b, at);
		at = putDigits(b, at + ACK_PREFIX, SEQ_DIGITS, e.seq);
		at = putDigits(b, at, LEASE_DIGITS, e.lease);
		b[at++] = 0x12;				/* message */
		at = putVarint(b, at, body.length);
		body.copy(b, at);
		at += body.length;
		if (attempts) {
			b[at++] = 0x18;			/* delivery_attempt */
			at = putVarint(b, at, e.attempts);
		}
	}
	if (tail)
		tail.copy(b, at);
	return b;
}

export function encodeProperties({ exactlyOnce, ordering }) {
	return field(4, [...(exactlyOnce ? [0x08, 1] : []), ...(ordering ? [0x10, 1] : [])]);
}

/* An {ack,modify_ack_deadline}_confirmation: ack_ids, invalid, temporary. */
export function encodeConfirmation(number, good, invalid, temporary) {
	return field(number, Buffer.concat([
		...good.map((id) => field(1, id)), ...invalid.map((id) => field(2, id)),
		...temporary.map((id) => field(number === 5 ? 4 : 3, id))]));
}

/*
 * AcknowledgeRequest and ModifyAckDeadlineRequest: { subscription, seconds },
 * and each(at, length) for every ack id.  null: malformed.
 */
export function decodeAckRequest(buffer, idField, each) {
	const out = { subscription: "", seconds: 0 };
	let at = 0;

	function number() {
		let value = 0, scale = 1, byte;

		do {
			byte = buffer[at++];
			value += (byte & 127) * scale;
			scale *= 128;
		} while (byte & 128);
		return value;
	}
	while (at < buffer.length) {
		const tag = number(), kind = tag % 8;
		const value = kind === 0 || kind === 2 ? number() : NaN;

		if (!(value >= 0) || (kind === 2 && at + value > buffer.length))
			return null;
		if (kind === 0 && tag === 24)		/* ack_deadline_seconds = 3 */
			out.seconds = value > 2 ** 31 ? -1 : value;
		if (kind !== 2)
			continue;
		if (tag === 10)
			out.subscription = buffer.toString("utf8", at, at + value);
		else if (tag === idField * 8 + 2)
			each(at, value);
		at += value;
	}
	return out;
}

/* google.rpc.Status with one ErrorInfo. */
export function encodeStatus(code, message, reason, metadata) {
	const info = Buffer.concat([field(1, reason), field(2, "pubsub.googleapis.com"),
		...Object.entries(metadata).map(([k, v]) => field(3, Buffer.concat([field(1, k), field(2, v)])))]);

	return Buffer.concat([varint(8), varint(code), field(2, message),
		field(3, Buffer.concat([field(1, "type.googleapis.com/google.rpc.ErrorInfo"), field(2, info)]))]);
}
