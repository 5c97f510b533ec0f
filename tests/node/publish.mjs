/*
 * Publishes with Google's own client through PUBSUB_EMULATOR_HOST:
 *
 *	publish.mjs PROJECT TOPIC
 *
 * A message is a line of JSON on standard input: {"data": text, or "base64";
 * "attributes", "orderingKey"}.  Prints their ids in the same order.
 */
import readline from "node:readline";
import { PubSub } from "@google-cloud/pubsub";

const [project, name] = process.argv.slice(2);
const client = new PubSub({ projectId: project });
const topic = client.topic(name, { messageOrdering: true, batching: { maxMilliseconds: 1 } });
const ids = [];

for await (const line of readline.createInterface({ input: process.stdin })) {
	const m = JSON.parse(line);
	const data = m.base64 === undefined ? Buffer.from(m.data ?? "") : Buffer.from(m.base64, "base64");

	ids.push(topic.publishMessage({ data, attributes: m.attributes, orderingKey: m.orderingKey }));
}
for (const id of await Promise.all(ids))
	console.log(id);
await client.close();
