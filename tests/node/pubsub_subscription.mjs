/*
 * pubsub_subscription.mjs - one subscription: who may have which message now.
 *
 * A message is WAITING, LEASED to somebody until it is acknowledged or its
 * time is over, or DELAYED by the retry policy.  Work for a message does not
 * grow with the number of messages.
 *
 * With ordering, the messages of a key go out in one batch and the next batch
 * only when all of that is acknowledged.  What is redelivered takes the later
 * ones of its batch along, those acknowledged too, as Google's does.
 */
import { Deque, Wheel } from "./pubsub_queue.mjs";
import { ackPrefix } from "./pubsub_wire.mjs";

const WAITING = 1, LEASED = 2, DELAYED = 3, GONE = 4;
const BATCH = 100;			/* messages of one response, as Google's emulator */
const BATCH_BYTES = 1 << 20;
const HISTORY = 20000;			/* messages whose deliveries are remembered */

export const OK = null;
export const INVALID_ACK_ID = "PERMANENT_FAILURE_INVALID_ACK_ID";

export class Subscription {
	constructor(world, config) {
		this.world = world;
		this.clock = world.clock;
		this.config = config;
		this.prefix = ackPrefix();
		this.seq = 0;
		this.entries = new Map();	/* not yet acknowledged */
		this.settled = new Map();	/* exactly-once: seq to lease */
		this.history = new Map();	/* message id to how it went */
		this.ready = new Deque();	/* entries and keys */
		this.keys = new Map();
		this.streams = new Set();
		this.pulls = new Deque();
		this.paused = false;
		this.scheduled = false;
		this.transient = { left: 0, reason: "" };
		this.wheel = new Wheel(this.clock, (e) => this.due(e));
		this.counts = { published: 0, delivered: 0, acked: 0, nacked: 0, expired: 0, extended: 0,
			dead_lettered: 0, ignored: 0, outstanding: 0, delayed: 0 };
	}

	get attempts() {
		return this.config.deadLetterPolicy?.maxDeliveryAttempts ?? 0;
	}

	get properties() {
		return { exactlyOnce: !!this.config.enableExactlyOnceDelivery,
			ordering: !!this.config.enableMessageOrdering };
	}

	/* From its topic. */
	add(message) {
		const e = { seq: ++this.seq, message, state: WAITING, attempts: 0, lease: 0, due: 0, holder: null,
			queue: null, acked: false, revoked: false, room: 0 };

		this.counts.published++;
		this.entries.set(e.seq, e);
		if (this.history.size < HISTORY)
			this.history.set(message.id, { deliveries: 0, acked: false });
		if (this.config.enableMessageOrdering && message.key) {
			e.queue = this.keys.get(message.key);
			if (!e.queue) {
				e.queue = { name: message.key, waiting: new Deque(), batch: [], queued: false, due: 0 };
				this.keys.set(message.key, e.queue);
			}
			e.queue.waiting.push(e);
			this.offerKey(e.queue);
		} else {
			this.ready.push(e);
		}
		this.kick();
	}

	/* ---- out ---- */

	kick() {
		if (!this.scheduled) {
			this.scheduled = true;
			setImmediate(() => this.pump());
		}
	}

	pump() {
		this.scheduled = false;
		if (this.paused)
			return;
		while (this.ready.length && this.pulls.length) {
			const pull = this.pulls.shift();

			if (!pull.done)
				pull.answer(this.take(pull, pull.max, pull.max));
		}
		for (let sent = true; sent;) {
			const open = [...this.streams].filter((s) => s.room() > 0);
			const share = Math.ceil(this.ready.length / open.length);

			sent = false;
			for (const s of open) {
				const out = this.take(s, share, Math.min(BATCH, s.room()));

				if (out.length)
					s.send(out);
				sent ||= out.length > 0;
			}
		}
	}

	/*
	 * Leases to the holder ({ leaseMs, bytesLeft(), outstanding, bytes }) what
	 * is first: so many entries or keys, and never more than room messages.
	 */
	take(holder, items, room) {
		const out = [];
		let bytes = 0, e;
		const more = () => out.length < room && bytes < BATCH_BYTES && holder.bytesLeft() > 0;
		const give = () => {
			this.lease(e, holder);
			out.push(e);
			bytes += e.message.size;
		};

		for (; items > 0 && this.ready.length && more(); items--) {
			const next = this.ready.shift();

			if (!next.batch) {
				e = next;
				if (e.state === WAITING)
					give();
				continue;
			}
			next.queued = false;
			while (more() && (e = next.waiting.shift())) {
				next.batch.push(e);
				give();
			}
		}
		return out;
	}

	lease(e, holder) {
		e.state = LEASED;
		e.acked = e.revoked = false;
		e.lease++;
		e.attempts++;
		e.holder = holder;
		e.due = this.clock.now() + holder.leaseMs;
		this.wheel.add(e.due, e);
		holder.outstanding++;
		holder.bytes += e.message.size;
		this.counts.outstanding++;
		this.counts.delivered++;
		const h = this.history.get(e.message.id);

		if (h)
			h.deliveries++;
	}

	/* ---- back ---- */

	/* For whom it was outstanding, it is no more. */
	leave(e) {
		if (e.state === DELAYED)
			this.counts.delayed--;
		if (!e.holder)
			return;
		e.holder.outstanding--;
		e.holder.bytes -= e.message.size;
		e.holder = null;
		this.counts.outstanding--;
	}

	finish(e) {
		this.leave(e);
		e.state = GONE;
		this.entries.delete(e.seq);
		if (this.config.enableExactlyOnceDelivery)
			this.settled.set(e.seq, e.lease);
		e.message = null;
	}

	acked(e) {
		const h = this.history.get(e.message.id);

		if (h)
			h.acked = true;
		this.counts.acked++;
		this.finish(e);
	}

	/* OK, or what is wrong with this id. */
	check(seq, lease) {
		const e = this.entries.get(seq);

		if (this.transient.left > 0) {
			this.transient.left--;
			return this.transient.reason;
		}
		if (!this.config.enableExactlyOnceDelivery)
			return OK;
		if (!e)
			return this.settled.get(seq) === lease ? OK : INVALID_ACK_ID;
		return e.state === LEASED && e.lease === lease && !e.revoked ? OK : INVALID_ACK_ID;
	}

	/*
	 * Without exactly-once an older lease's id works too: the service
	 * promises nothing there, and so a client must not count on either.
	 */
	ack(seq, lease) {
		const wrong = this.check(seq, lease);
		const e = this.entries.get(seq);

		if (wrong || !e || e.acked)
			return wrong;
		if (!e.queue) {
			this.acked(e);
		} else if (e.state === LEASED) {
			const { batch } = e.queue;

			e.acked = true;
			this.leave(e);
			while (batch.length && batch[0].acked)
				this.acked(batch.shift());
			this.offerKey(e.queue);
			if (!batch.length && !e.queue.waiting.length)
				this.keys.delete(e.queue.name);
		} else {
			this.counts.ignored++;
		}
		this.kick();
		return OK;
	}

	/* 0 seconds: a nack. */
	modify(seq, lease, seconds) {
		const wrong = this.check(seq, lease);
		const e = this.entries.get(seq);

		if (wrong || !e || e.acked)
			return wrong;
		if (e.state !== LEASED || e.lease !== lease) {
			this.counts.ignored++;
		} else if (seconds === 0) {
			this.counts.nacked++;
			this.giveBack(e);
		} else {
			this.counts.extended++;
			e.due = this.clock.now() + seconds * 1000;
			this.wheel.add(e.due, e);
		}
		return OK;
	}

	/* From the wheel; e is an entry or a key that was delayed. */
	due(e) {
		if (e.due > this.clock.now())
			return;
		if (e.batch) {
			this.offerKey(e);
			this.kick();
		} else if (e.state === LEASED && !e.acked) {
			this.counts.expired++;
			this.giveBack(e);
		} else if (e.state === DELAYED) {
			this.leave(e);
			e.state = WAITING;
			this.ready.unshift(e);
			this.kick();
		}
	}

	/* Redelivers, or makes it a dead letter. */
	giveBack(e) {
		const dead = this.attempts && e.attempts >= this.attempts &&
			this.world.deadLetter(this, e);
		const delay = dead ? 0 : this.backoff(e);
		const key = e.queue;

		this.leave(e);
		if (key)
			this.rewind(e, key, dead);
		if (dead) {
			this.counts.dead_lettered++;
			this.finish(e);
		}
		if (key) {
			key.due = this.clock.now() + delay;
			if (delay > 0)
				this.wheel.add(key.due, key);
			this.offerKey(key);
		} else if (!dead && delay > 0) {
			e.state = DELAYED;
			this.counts.delayed++;
			e.due = this.clock.now() + delay;
			this.wheel.add(e.due, e);
		} else if (!dead) {
			e.state = WAITING;
			this.ready.unshift(e);
		}
		this.kick();
	}

	/* e and the later ones of its batch wait again, in their order. */
	rewind(e, key, dead) {
		const later = key.batch.splice(key.batch.indexOf(e));

		if (dead)
			later.shift();
		for (const x of later.reverse()) {
			this.leave(x);
			x.state = WAITING;
			x.acked = false;
			key.waiting.unshift(x);
		}
	}

	/* Among the ready ones, when its next batch may go. */
	offerKey(key) {
		if (key.batch.length || key.queued || !key.waiting.length || key.due > this.clock.now())
			return;
		key.queued = true;
		this.ready.push(key);
	}

	/* The first retry waits the minimum, each further one twice as long. */
	backoff(e) {
		const policy = this.config.retryPolicy;

		if (!policy)
			return 0;
		return Math.min(ms(policy.minimumBackoff, 10000) * 2 ** (e.attempts - 1), ms(policy.maximumBackoff, 600000));
	}

	/* ---- for tests ---- */

	/* The leases of now are worth nothing, though nothing is redelivered before their time. */
	revoke() {
		for (const e of this.entries.values())
			if (e.state === LEASED)
				e.revoked = true;
	}

	look() {
		return { ...this.counts, undelivered: this.entries.size,
			waiting: this.entries.size - this.counts.outstanding - this.counts.delayed,
			streams: [...this.streams].map((s) => s.look()) };
	}

	close() {
		this.wheel.close();
		for (let pull; (pull = this.pulls.shift());)
			pull.answer([]);
	}
}

function ms(duration, otherwise) {
	return duration ? Number(duration.seconds ?? 0) * 1000 + (duration.nanos ?? 0) / 1e6 : otherwise;
}
