/*
 * A small Google Pub/Sub in memory, on loopback and a free port for gRPC
 * (plaintext, or TLS with --cert and --key) and one for REST and /fake; it
 * prints both.  pubsub_subscription.mjs says what it does with a message.
 */
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import grpc from "@grpc/grpc-js";
import { Faults } from "./pubsub_faults.mjs";
import { Service } from "./pubsub_grpc.mjs";
import { Rest } from "./pubsub_rest.mjs";
import { World } from "./pubsub_world.mjs";

const { values } = parseArgs({ options: { port: { type: "string", default: "0" }, cert: { type: "string" },
	key: { type: "string" } } });
const credentials = values.cert ? grpc.ServerCredentials.createSsl(null, [{ cert_chain: readFileSync(values.cert),
	private_key: readFileSync(values.key) }]) : grpc.ServerCredentials.createInsecure();
const service = new Service(new World(), new Faults());
const rest = new Rest(service);
const port = await service.listen(values.port, credentials);

console.log(`rest ${await rest.listen(0)}`);
console.log(`port ${port}`);
process.once("SIGTERM", () => process.exit(0));
