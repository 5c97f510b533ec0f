/*
 * log_event.h - what kinds of events the log tells of: the MESSAGE_ID of each
 * (sd-journal(3), 128 random bits), by which journalctl finds them and looks
 * up what they mean and what to do (journalctl -x).
 *
 * Each has an entry in systemd/bot-operator.catalog, and the other way round;
 * tests/live/test_journal.py compares the two.  An ID never changes its
 * meaning; a new kind gets a new one (systemd-id128 new).
 */
#ifndef BOT_BASE_LOG_EVENT_H
#define BOT_BASE_LOG_EVENT_H

/* The operator starts */
#define EVENT_START \
	"f78bb43d2fce47d49e183710c906d32d"
/* Messages are taken */
#define EVENT_READY \
	"9edeab8043774ff5b987654e5d4ab4ed"
/* Nothing can be worked on yet */
#define EVENT_NOT_READY \
	"63a300b9d1404a949505b265f3e4372d"
/* It ends */
#define EVENT_CANNOT_START \
	"e11cdd5070e04ff880b90c6ed2977dfe"
/* A stop has begun */
#define EVENT_DRAIN \
	"8113f59a9428406686fe6395e42048c0"
/* What still runs is stopped */
#define EVENT_DRAIN_TIMEOUT \
	"5025e3d4e3a0492791a9f3404667fdf1"
/* Drained */
#define EVENT_STOPPED \
	"52223d1e4457428dae7b71bc65276bc7"
/* A new configuration is in force */
#define EVENT_RELOADED \
	"002489b5467e40c799f2fa5e18e06fc7"
/* A configuration has problems */
#define EVENT_RELOAD_REFUSED \
	"cf4f3b9d19ec40fda9aefdff4381bee8"
/* Some of it needs a restart */
#define EVENT_RELOAD_PARTIAL \
	"5628778dd9024db6b50793e9e8f8b892"
/* One section was added, changed, removed */
#define EVENT_SECTION_CHANGED \
	"8c8afe9faf6d402a828b21095d73b716"
/* One section stays as it was */
#define EVENT_SECTION_REFUSED \
	"325d6051ca1e4dc69920b3691b4bfec3"
/* Connected */
#define EVENT_QUEUE_UP \
	"366bad055bf44255955f5344c2b43598"
/* Not connected */
#define EVENT_QUEUE_DOWN \
	"b40177d722f84fb48f03c4b193a5b201"
/* Somebody asked for less */
#define EVENT_QUEUE_SLOWED \
	"cfff974d9ce74c29a4ef846db5f6ad04"
/* As usual again */
#define EVENT_QUEUE_RESUMED \
	"04412343acef43c79baf2e6c13ad8ab5"
/* The broker is not set up as it should be */
#define EVENT_QUEUE_SETUP \
	"0ee0d8fc2866411197fa87b9a7a47efe"
/* Put in order by ourselves */
#define EVENT_QUEUE_RECOVERED \
	"1853594c51354a168af63544d5bd84e7"
/* One cannot be taken or given back */
#define EVENT_MESSAGE_STUCK \
	"dbd74e942c6640d7bbf05a1974f685f4"
/* One has gone to the dead letters */
#define EVENT_DEAD_LETTER \
	"7386aa83666048bbbda8ca1913b00e97"
/* A retry or dead letter cannot be stored */
#define EVENT_COPY_FAILED \
	"1676857f402f4f55a11bbdb451137e0f"
/* And will be tried again */
#define EVENT_ATTEMPT_FAILED \
	"cbd0726e089649a5bd9449b0368e3cc0"
/* The broker did not take an outcome */
#define EVENT_SETTLE_FAILED \
	"35c5679359aa4687beb3b2b610992a6a"
/* Others may have the message */
#define EVENT_LEASE_LOST \
	"392ae076d6434dc19c2cd65c9b0119c0"
/* A command was refused */
#define EVENT_BROKER_ERROR \
	"e78c7ed808694cdc9ad6fe24ec8dbe45"
/* No worker can run */
#define EVENT_POOL_BROKEN \
	"677f57da39604a26ab42781fa2f8e210"
/* Workers can run */
#define EVENT_POOL_READY \
	"edffd1ebe53f4540acba755649b2b307"
/* A worker has ended */
#define EVENT_WORKER_CRASH \
	"b20b2e3917d840ee9e23a1d2c3c82a98"
/* Over Timeout= */
#define EVENT_WORKER_TIMEOUT \
	"e32ed3bcbd2b47f4a28eccf707e9922e"
/* A worker does not speak the protocol */
#define EVENT_WORKER_PROTOCOL \
	"1890add56d864a4ea1357563f875dc44"
/* One by one, to find the culprit */
#define EVENT_WORKER_CAUTION \
	"e5d06337d7264455b52cebe7d09e6f05"
/* For new settings */
#define EVENT_WORKERS_REPLACED \
	"f7cf5793270749f8a44ce5018cb9f966"
/* Too many lines of a worker */
#define EVENT_OUTPUT_DROPPED \
	"9f8c6af8656043deac54ec606168f813"
/* Something that handlers need */
#define EVENT_CHECK_DOWN \
	"5634d5e346f34aa4b2fe82a9382898bb"
/* It is back */
#define EVENT_CHECK_UP \
	"2b108ec9faf04058997257eeaeb25a06"
/* Soon */
#define EVENT_CERTIFICATE_ENDS \
	"0b8855fd891647199a876d8f39a113fa"
/* Of a cloud, not refreshed */
#define EVENT_CREDENTIALS_FAILED \
	"6640b8946c8847cbade0722f382d2f9e"
/* Refreshed again */
#define EVENT_CREDENTIALS_BACK \
	"cebf724caecd4eb2ae29f474bc7443a0"
/* A sink cannot be told, or tells us off */
#define EVENT_SINK_FAILED \
	"ce2cdec1dd2a4f3593222bfbbdcf6d82"
/* It can be told again */
#define EVENT_SINK_WORKS \
	"3909321cd688413fabbb8b79632a9bf8"
/* Something was not told */
#define EVENT_SINK_DROPPED \
	"4a5b0d77fc7249058fe176f396016de4"
/* A rule's condition began, holds for long, or ended */
#define EVENT_ALERT \
	"43137ee91f874ca5b71e2af713874077"
/* People are not told for a while */
#define EVENT_SILENCE \
	"7359f06bb65f4a128d6d1240c1b4a071"
/* What alerts keep over a restart */
#define EVENT_ALERT_STATES \
	"7acda17c5176484eb51f45ac8c37c413"
/* More than is kept */
#define EVENT_TOO_MANY \
	"eac1c598753b4b6d88281999e3f4c8c3"
/* Too many use botctl at once */
#define EVENT_CONTROL_REFUSED \
	"d94b7de60a274a27b5799fd92f555659"
/* Somebody used botctl */
#define EVENT_CONTROL_COMMAND \
	"395f654337f44f20a1b56fc3e51b9e2d"
/* Somebody may not use the status server or the control socket */
#define EVENT_AUTH_FAILED \
	"44a5ed31831c40e28a8ede5d430a884d"
/* A signature is missing or wrong */
#define EVENT_MESSAGE_AUTH_FAILED \
	"08e000c2bc5e4452a99ae6720cad0e9d"
/* A message is not as a [Screen] wants it */
#define EVENT_MESSAGE_SUSPICIOUS \
	"c3b7e5fcdf82440c89f0fab98522bd74"
/* A sender sends more than it may */
#define EVENT_MESSAGE_FLOOD \
	"8671aa37b88945ce8d674a85dd827b62"
/* Takes nothing until it is promoted */
#define EVENT_STANDBY \
	"31e5bd2b207145ce87c55c3f7a40dd29"
/* Out of standby */
#define EVENT_PROMOTED \
	"fd77a1b17e5c40baa0f2e59be152fcd2"
/* A promotion will not survive a restart */
#define EVENT_ROLE_FORGOTTEN \
	"bc7c0333cbb54a84942402a60e9cae60"
/* Sockets of systemd and the configuration disagree */
#define EVENT_HANDOVER \
	"43a05eb21b124aada97c3448bee8dafc"
/* Somebody else has the status address */
#define EVENT_STATUS_ADDRESS \
	"c1cb47560d554bb0bcba2efb551c07ae"
/* Workers' own control groups: had or not */
#define EVENT_CGROUPS \
	"77849c6a0e2b45a7b0e1a778ec3542bf"
/* Somebody else has decided so */
#define EVENT_SENDER_BANNED \
	"10ab83748ca24471a7626c6c775bd301"
/* Of CrowdSec's, some do not count here */
#define EVENT_DECISIONS \
	"d90bd3b39cfc4e5d84269a8f1e86c293"
/* A turn took too long */
#define EVENT_LOOP_SLOW \
	"dcaf5207513b4072aff304b0ff44ecd7"
/* A broken invariant */
#define EVENT_BUG \
	"d335ad2fc07e452194cd56a67ed60e2a"

#endif
