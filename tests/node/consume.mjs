/*
 * Google's own client as a subscriber that a test commands:
 *
 *	consume.mjs JSON
 *
 * with an object of project, subscription (none: for raw calls only) and
 * options, those of the client's subscription.  Commands are lines of JSON on
 * standard input: {"ack"|"nack"|"ackWithResponse"|"nackWithResponse": message
 * id}, {"close": 1}, {"raw": method, "request": {}} (a call of the generated
 * client) and {"halfClose": subscription} (a stream of its own, after its
 * first response).  What happens is printed as lines of JSON.
 */
import readline from "node:readline";
import grpc from "@grpc/grpc-js";
import { PubSub, v1 } from "@google-cloud/pubsub";

const { project, subscription, options } = JSON.parse(process.argv[2]);
const pubsub = new PubSub({ projectId: project });
const held = new Map();
const say = (what) => console.log(JSON.stringify(what));
let raw, open;

if (subscription) {
	open = pubsub.subscription(subscription, options);
	open.on("message", (m) => {
		held.set(m.id, m);
		say({ message: m.id, data: m.data.toString(), attributes: m.attributes, key: m.orderingKey, ackId: m.ackId,
			attempt: m.deliveryAttempt });
	});
	open.on("error", (e) => say({ error: e.code, text: e.details ?? e.message }));
	open.on("close", () => say({ closed: 1 }));
}

function client() {
	const [servicePath, port] = process.env.PUBSUB_EMULATOR_HOST.split(":");

	raw ??= new v1.SubscriberClient({ projectId: project, servicePath, port, sslCreds: grpc.credentials.createInsecure() });
	return raw;
}

function halfClose(name) {
	const stream = client().streamingPull();

	stream.on("error", (e) => say({ halfClosed: e.code }));
	stream.on("status", (s) => say({ halfClosed: s.code }));
	stream.on("data", () => stream.end());
	stream.write({ subscription: name, streamAckDeadlineSeconds: 10 });
}

for await (const line of readline.createInterface({ input: process.stdin })) {
	const c = JSON.parse(line);
	const [verb] = Object.keys(c);

	if (verb === "ack" || verb === "nack")
		held.get(c[verb])[verb]();
	else if (verb === "ackWithResponse" || verb === "nackWithResponse")
		held.get(c[verb])[verb]().then((r) => say({ answer: c[verb], result: r }),
			(e) => say({ answer: c[verb], result: e.errorCode ?? String(e) }));
	else if (verb === "close")
		await open.close();
	else if (verb === "halfClose")
		halfClose(c.halfClose);
	else if (verb === "raw")
		client()[c.raw](c.request, { retry: null }).then(([r]) => say({ raw: c.raw, result: r }),
			(e) => say({ raw: c.raw, error: e.code, text: e.details, reason: e.reason, metadata: e.errorInfoMetadata }));
}
process.exit(0);
