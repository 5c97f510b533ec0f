/*
 * PostHog's own client as something to compare with:
 *
 *	posthog_send.mjs HOST KEY
 *
 * sends one event and one exception to HOST, and ends.
 */
import { PostHog } from "posthog-node";

const [host, key] = process.argv.slice(2);
const posthog = new PostHog(key, { host });
const told = { queue: "orders", $process_person_profile: false };

posthog.capture({ distinctId: "test@host", event: "something", properties: told });
posthog.captureException(new Error("went wrong"), "test@host", told);
/* The exception is put together in the background. */
await new Promise((done) => setTimeout(done, 200));
await posthog.shutdown();
