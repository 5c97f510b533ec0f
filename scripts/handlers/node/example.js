#!/usr/bin/env node
'use strict';
/*
 * An example handler: [Pool example] Exec=/path/to/example.js
 *
 * It wants JSON such as {"name": "Ada"}; "do" shows the other ways out:
 * retry, rate_limited, dead, raise, slow.
 */
const { run, Retry, RateLimited, Dead } = require('./bot-handler');

async function handle(message) {
	let order;
	try {
		order = message.json();
	} catch (e) {
		throw new Dead('invalid_format', `no JSON: ${e.message}`);
	}
	if (!order || order.name === undefined)
		throw new Dead('invalid_format', 'no name in the body');
	if (order.do === 'retry' && message.attempt === 1) {
		throw new Retry({ delay: 0.05, errorType: 'external_api',
			detail: 'the mail server said 503' });
	}
	if (order.do === 'rate_limited')
		throw new RateLimited(1.5);
	if (order.do === 'dead')
		throw new Dead('invalid_format', 'nobody wants this');
	if (order.do === 'raise')
		throw new TypeError('a bug');
	if (order.do === 'slow') {
		message.touch(30);
		await new Promise((resolve) => setTimeout(resolve, 300));
	}
	console.log(`hello, ${order.name}`);
}

run(handle, { concurrency: Number(process.env.CONCURRENCY || 1) });
