/*
 * Starts fauxqs, an SQS in memory, on loopback and the port FAUXQS_PORT (0: a
 * free one), and prints the port.  It would listen on every address.
 */
import net from "node:net";
import { startFauxqs } from "fauxqs";

const listen = net.Server.prototype.listen;

net.Server.prototype.listen = function (options, ...rest) {
	return listen.call(this, { ...options, host: "127.0.0.1" }, ...rest);
};

const server = await startFauxqs({
	port: Number(process.env.FAUXQS_PORT ?? 0),
	defaultRegion: process.env.FAUXQS_DEFAULT_REGION,
	logger: false,
});

console.log(`port ${server.port}`);
process.once("SIGTERM", () => process.exit(0));
