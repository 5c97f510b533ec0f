'use strict';
/*
 * bot-handler.js - handlers for bot-operator's Exec= in Node.js 12 or later;
 * one file, no dependencies.
 *
 *	const { run, Retry, RateLimited, Dead } = require('./bot-handler');
 *
 *	run(async (message) => {
 *		const order = message.json();
 *		...				// returning is "done"
 *	}, { concurrency: 16 });
 *
 * What the handler throws says what becomes of the message:
 *
 *	new Retry({ delay: 30, errorType: 'external_api', detail: '...' })
 *	new Retry()		after the time that Backoff= says
 *	new RateLimited(60)	the whole queue pauses for a minute
 *	new Dead('invalid_format', 'no customer')
 *	an Error		retry, counted as internal, with its stack
 *				(name TimeoutError or AbortError: as timeout)
 *
 * concurrency (1 unless given): how many messages run at once.
 * message.touch(seconds) asks for more time.  console.log goes to the log.
 */
const net = require('net');

const DETAIL_MAX = 4000;
const HOLD_MS = 0.5;	// answers wait at most so long to be written together

class Retry extends Error {
	constructor({ delay = null, errorType = 'internal', detail = '' } = {}) {
		super(detail || errorType);
		Object.assign(this, { delay, errorType, detail });
	}
}

class RateLimited extends Retry {
	constructor(delay, detail = '') {
		super({ delay, errorType: 'rate_limited', detail });
	}
}

class Dead extends Error {
	constructor(errorType = 'internal', detail = '') {
		super(detail || errorType);
		Object.assign(this, { errorType, detail });
	}
}

class Message {
	constructor(channel, fields, attributes, body) {
		this.channel = channel;
		this.id = fields[1];
		this.queue = fields[2];
		this.attempt = Number(fields[3]);
		this.timeout = Number(fields[4]) / 1000;
		this.rawAttributes = attributes;
		this.body = body;	// a Buffer
		this.cancelled = false;
	}

	get attributes() {
		const value = JSON.parse(this.rawAttributes.toString());
		Object.defineProperty(this, 'attributes', { value });
		return value;
	}

	text() { return this.body.toString(); }
	json() { return JSON.parse(this.body.toString()); }

	touch(seconds) {
		this.channel.send(
		    `TOUCH ${this.id} ${Math.max(0, Math.floor(seconds * 1000))}\n`);
	}
}

function word(s) {
	return String(s).replace(/[^A-Za-z0-9_.-]/g, '_').slice(0, 63) || 'internal';
}

function failure(head, errorType, detail) {
	const data = Buffer.from(String(detail)).slice(0, DETAIL_MAX);
	return Buffer.concat([
		Buffer.from(`${head} ${word(errorType)} ${data.length}\n`), data]);
}

function failureOf(id, e) {
	if (e instanceof Retry) {
		const delay = e.delay === null || e.delay === undefined ? '-' :
		    Math.max(0, Math.floor(e.delay * 1000));
		return failure(`RETRY ${id} ${delay}`, e.errorType, e.detail);
	}
	if (e instanceof Dead)
		return failure(`DEAD ${id}`, e.errorType, e.detail);
	const name = e && e.name;
	const type = name === 'TimeoutError' || name === 'AbortError' ?
	    'timeout' : 'internal';
	return failure(`RETRY ${id} -`, type, (e && e.stack) || e);
}

class Channel {
	constructor(handler, concurrency, fd) {
		this.handler = handler;
		this.concurrency = concurrency;
		this.rest = [];		// pieces of what is not yet a frame
		this.restBytes = 0;
		this.need = 0;
		this.waiting = [];
		this.running = new Map();
		this.out = [];
		this.heldSince = 0;
		this.leaving = false;
		this.socket = new net.Socket({ fd, readable: true, writable: true });
		this.socket.on('data', (data) => this.take(data));
		this.socket.on('end', () => this.leave());
		this.socket.on('error', () => process.exit(1));
		this.send(`READY ${concurrency}\n`);
		this.flush();
	}

	send(frame) {
		if (this.out.length === 0) {
			this.heldSince = performanceNow();
			setImmediate(() => this.flush());
		}
		this.out.push(typeof frame === 'string' ? Buffer.from(frame) : frame);
	}

	flush() {
		if (this.out.length === 0)
			return;
		const data = this.out.length === 1 ? this.out[0] :
		    Buffer.concat(this.out);
		this.out = [];
		this.socket.write(data);
	}

	take(data) {
		this.rest.push(data);
		this.restBytes += data.length;
		if (this.restBytes < this.need)
			return;		// a large body: join its pieces once
		const buf = this.rest.length === 1 ? data :
		    Buffer.concat(this.rest);
		const used = this.frames(buf);
		this.rest = used < buf.length ? [buf.slice(used)] : [];
		this.restBytes = buf.length - used;
		this.pump();
	}

	frames(buf) {
		let pos = 0;
		this.need = 0;
		for (;;) {
			const end = buf.indexOf(10, pos);
			if (end < 0)
				return pos;
			const fields = buf.toString('utf8', pos, end).split(' ');
			if (fields[0] === 'MSG') {
				const a = end + 1 + Number(fields[5]);
				const b = a + Number(fields[6]);
				if (b > buf.length) {
					this.need = b - pos;
					return pos;
				}
				this.waiting.push(new Message(this, fields,
				    buf.slice(end + 1, a), buf.slice(a, b)));
				pos = b;
				continue;
			}
			if (fields[0] === 'DRAIN')
				this.leave();
			else if (fields[0] === 'CANCEL' && this.running.has(fields[1]))
				this.running.get(fields[1]).cancelled = true;
			pos = end + 1;
		}
	}

	async pump() {
		while (this.waiting.length !== 0 &&
		    this.running.size < this.concurrency) {
			const message = this.waiting.shift();
			if (this.out.length !== 0 &&
			    performanceNow() - this.heldSince > HOLD_MS)
				this.flush();
			this.running.set(message.id, message);
			const done = this.one(message);
			// One at a time means that each is awaited.
			if (this.concurrency === 1)
				await done;
		}
	}

	async one(message) {
		let frame;
		try {
			await this.handler(message);
			frame = `DONE ${message.id}\n`;
		} catch (e) {
			frame = failureOf(message.id, e);
		}
		this.running.delete(message.id);
		this.send(frame);
		if (this.leaving)
			this.leave();
		else if (this.concurrency !== 1 && this.waiting.length !== 0)
			this.pump();
	}

	leave() {
		this.leaving = true;
		if (this.running.size !== 0 || this.waiting.length !== 0)
			return;
		this.flush();
		this.socket.end(() => process.exit(0));
	}
}

function performanceNow() {
	const [s, ns] = process.hrtime();
	return s * 1e3 + ns / 1e6;
}

function run(handler, { concurrency = 1 } = {}) {
	const fd = process.env.BOT_OPERATOR_FD;
	if (fd === undefined) {
		console.error('This program is a handler: name it in Exec= of a ' +
		    '[Pool] of bot-operator.');
		process.exit(1);
	}
	const channel = new Channel(handler, concurrency, Number(fd));
	process.on('SIGTERM', () => channel.leave());
	return channel;
}

module.exports = { run, Message, Retry, RateLimited, Dead };
