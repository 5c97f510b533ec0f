/*
 * pubsub_queue.mjs - what a subscription stands on: a clock that a test can
 * move, due times in steps, and a queue with two ends.
 */

const STEP_MS = 20;

/* Milliseconds; advance() lets a test skip a lease instead of waiting. */
export class Clock {
	constructor() {
		this.ahead = 0;
		this.wheels = new Set();
	}

	now() {
		return performance.now() + this.ahead;
	}

	/* As the world counts, for publish times. */
	wall() {
		return Date.now() + this.ahead;
	}

	advance(ms) {
		this.ahead += ms;
		for (const wheel of this.wheels)
			wheel.run();
	}
}

/*
 * Calls fire(item) at or after a time.  Nothing is taken out: fire() looks
 * whether the item is still due.  So both ends cost the same for any number.
 */
export class Wheel {
	constructor(clock, fire) {
		this.clock = clock;
		this.fire = fire;
		this.buckets = new Map();
		this.last = Math.floor(clock.now() / STEP_MS);
		this.timer = null;
		clock.wheels.add(this);
	}

	add(at, item) {
		const step = Math.max(Math.ceil(at / STEP_MS), this.last + 1);
		const bucket = this.buckets.get(step);

		if (bucket)
			bucket.push(item);
		else
			this.buckets.set(step, [item]);
		this.timer ??= setInterval(() => this.run(), STEP_MS);
	}

	run() {
		const end = Math.floor(this.clock.now() / STEP_MS);

		while (this.last < end) {
			const bucket = this.buckets.get(++this.last);

			if (!bucket)
				continue;
			this.buckets.delete(this.last);
			for (const item of bucket)
				this.fire(item);
		}
		if (this.buckets.size === 0) {
			clearInterval(this.timer);
			this.timer = null;
		}
	}

	close() {
		clearInterval(this.timer);
		this.clock.wheels.delete(this);
	}
}

/* A ring; all but growing is O(1). */
export class Deque {
	constructor() {
		this.items = new Array(16);
		this.head = 0;
		this.length = 0;
	}

	push(item) {
		if (this.length === this.items.length)
			this.grow();
		this.items[(this.head + this.length++) & (this.items.length - 1)] = item;
	}

	unshift(item) {
		if (this.length === this.items.length)
			this.grow();
		this.head = (this.head - 1) & (this.items.length - 1);
		this.items[this.head] = item;
		this.length++;
	}

	shift() {
		if (this.length === 0)
			return undefined;
		const item = this.items[this.head];

		this.items[this.head] = undefined;
		this.head = (this.head + 1) & (this.items.length - 1);
		this.length--;
		return item;
	}

	grow() {
		const all = this.items.slice(this.head).concat(this.items.slice(0, this.head));

		all.length *= 2;
		this.items = all;
		this.head = 0;
	}
}
