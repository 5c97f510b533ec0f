#include "guard/guard_impl.h"

#include "base/alloc.h"

static const struct config_key queue_keys[] = {
	{ "Sender", CONFIG_STRING, NULL, NULL, 1, 256, CONFIG_RELOAD,
	    "Who sent a message: the name of an attribute, or .member of a "
	    "JSON body (a string or a whole number). Security events name it, "
	    "and SenderLimit=, Senders= of a [Screen] and bans are about it. A "
	    "sender can claim to be another unless what names it is signed." },
	{ "Verify", CONFIG_CHOICE, "none", "none|hmac-sha256", 0, 0,
	    CONFIG_RELOAD,
	    "hmac-sha256: each message carries an HMAC-SHA256 of its body, "
	    "byte for byte. One without, or with a wrong one, is told as an "
	    "event message_auth_failed and goes to the dead letters as "
	    "unauthenticated: it is never run and never retried." },
	{ "VerifyKeyFile", CONFIG_PATH, NULL, NULL, 0, 0,
	    CONFIG_SECRET_FILE | CONFIG_RELOAD,
	    "The file with the keys of Verify=, one a line and each at least "
	    "16 bytes long: all of them are valid, so that a new one can be "
	    "added before the old one is removed. Every reload reads it anew." },
	{ "VerifyAttribute", CONFIG_STRING, "signature", NULL, 1, 256,
	    CONFIG_RELOAD,
	    "The attribute that holds the signature: 64 hexadecimal digits, or "
	    "base64; \"sha256=\" may stand before it." },
	{ "VerifyWith", CONFIG_WORDS, NULL, NULL, 0, 32, CONFIG_RELOAD,
	    "Names of attributes that are signed with the body. What is signed "
	    "is then, for each in this order, its name, \"=\", its value and a "
	    "newline, and behind them the body. One that is missing, or has a "
	    "newline in its value, makes the signature wrong." },
	{ "SenderLimit", CONFIG_RATE, NULL, NULL, 0, 0, CONFIG_RELOAD,
	    "At most so many messages of one sender (Sender=), such as 10/s or "
	    "100/h. Those without a sender count as of one. Further attempts "
	    "do not count. The 4096 senders that were seen last are "
	    "remembered." },
	{ "SenderBurst", CONFIG_UNSIGNED, "0", NULL, 0, 1000000, CONFIG_RELOAD,
	    "How many a sender that was silent before may send at once. 0: "
	    "what SenderLimit= allows in 10 s, but at least 5." },
	{ "OverLimit", CONFIG_CHOICE, "delay", "log|delay|dead-letter", 0, 0,
	    CONFIG_RELOAD,
	    "What becomes of a message over SenderLimit=, besides an event "
	    "message_flood. log: it runs. delay: it comes again when the sender "
	    "may send again (at most 10min later), and no attempt is used up. "
	    "dead-letter: it goes to the dead letters as flood." },
};

const struct config_kind guard_queue_kind = {
	"Queue", true, NULL, NULL, queue_keys, ARRAY_SIZE(queue_keys), NULL,
};

/* ---- checks ---- */

/* A key that does nothing without another one. */
static void
check_needs(struct config *c, const struct config_section *s, const char *key,
    bool there, const char *needed)
{
	if (config_is_set(s, key) && !there)
		config_problem(c, s, key, "%s= does nothing without %s", key,
		    needed);
}

static void
check_verify(struct config *c, const struct config_section *s)
{
	static const char *const keys[] = {
		"VerifyKeyFile", "VerifyAttribute", "VerifyWith"
	};
	const char *file = config_string(s, "VerifyKeyFile");
	struct error err = ERROR_INIT;
	struct verify_keys *k;

	if (config_choice(s, "Verify") == VERIFY_NONE) {
		/* Verify=none on purpose may leave the others for later. */
		for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
			check_needs(c, s, keys[i], config_is_set(s, "Verify"),
			    "Verify=hmac-sha256");
		return;
	}
	if (file == NULL) {
		config_problem(c, s, "Verify", "Verify= needs VerifyKeyFile=, a "
		    "file with the keys that signatures are made with");
		return;
	}
	k = verify_keys_read(file, &err);
	if (k == NULL)
		config_problem(c, s, "VerifyKeyFile", "VerifyKeyFile=: %s",
		    err.text);
	verify_keys_free(k);
	for (char *const *w = config_words(s, "VerifyWith"); *w != NULL; w++)
		if (strcmp(*w, config_string(s, "VerifyAttribute")) == 0)
			config_problem(c, s, "VerifyWith", "\"%s\" is the "
			    "signature itself, which cannot be signed", *w);
}

void
guards_check(struct config *c)
{
	const struct config_section *s = NULL;
	size_t n = 0;

	while ((s = config_next(c, "Queue", s)) != NULL) {
		bool limit = config_rate(s, "SenderLimit") > 0;

		check_verify(c, s);
		check_needs(c, s, "SenderLimit", config_string(s, "Sender") !=
		    NULL, "Sender=, which says who sent a message");
		check_needs(c, s, "SenderBurst", limit, "SenderLimit=");
		check_needs(c, s, "OverLimit", limit, "SenderLimit=");
	}
	while ((s = config_next(c, "Screen", s)) != NULL)
		if (++n > GUARD_SCREENS_MAX)
			config_problem(c, s, NULL, "more than %u [Screen "
			    "NAME] sections", GUARD_SCREENS_MAX);
	screens_check(c);
}
