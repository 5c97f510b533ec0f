/*
 * [Queue NAME] with Type=redis: the keys, and reading them.
 */
#include <stdio.h>

#include "base/alloc.h"
#include "queue/redis_impl.h"

static const struct config_key keys[] = {
	{ "Address", CONFIG_ADDRESS, NULL, NULL, 0, 0, CONFIG_REQUIRED,
	    "The server: host, host:port, [v6]:port or the path of a Unix "
	    "socket. Port 6379 when none is written. Redis 6.2 or later." },
	TLS_CONFIG_KEYS,
	{ "Username", CONFIG_STRING, NULL, NULL, 0, 0, 0,
	    "The ACL user. Default: the default user. The user needs +time "
	    "+@connection +@scripting +@stream +@list +@sortedset +@hash +@set "
	    "on the keys KEY, {KEY}:* and DeadLetter= (for sidekiq also "
	    "queues, retry, schedule, dead and queue:*)." },
	{ "PasswordFile", CONFIG_PATH, NULL, NULL, 0, 0, CONFIG_SECRET_FILE,
	    "A file with the password, such as %d/redis. Read at each "
	    "connect." },
	{ "Database", CONFIG_UNSIGNED, "0", NULL, 0, 1000000, 0,
	    "The number of the database." },
	{ "Mode", CONFIG_CHOICE, "stream", "stream|list|sidekiq", 0, 0, 0,
	    "What lies under Key=. stream: a stream, read with a consumer "
	    "group; list: a list of bodies, moved to a processing list of our "
	    "own while they are worked on; sidekiq: a queue of Sidekiq, with "
	    "its retry and dead sets." },
	{ "Key", CONFIG_STRING, NULL, NULL, 0, 0, CONFIG_REQUIRED,
	    "The stream or list; for sidekiq the name of the queue, without "
	    "\"queue:\"." },
	{ "Group", CONFIG_STRING, "bot-operator", NULL, 0, 0, 0,
	    "stream: the consumer group. Made when it is missing, from the "
	    "first entry of the stream." },
	{ "Consumer", CONFIG_STRING, NULL, NULL, 0, 0, 0,
	    "Our name among the consumers. What it left unfinished is taken up "
	    "again at the next start, so it must stay the same, and no two "
	    "running operators may share it. Default: HOST:INSTANCE:QUEUE." },
	{ "BodyField", CONFIG_STRING, "body", NULL, 0, 0, 0,
	    "stream: the field that is the body; the others become attributes. "
	    "An entry without it has all its fields, as a JSON object, for "
	    "its body." },
	{ "PopFrom", CONFIG_CHOICE, "tail", "tail|head", 0, 0, 0,
	    "list: the end to take from: tail (right) for producers that "
	    "LPUSH, head (left) for those that RPUSH." },
	{ "Delete", CONFIG_BOOL, "no", NULL, 0, 0, 0,
	    "stream: delete an entry when it is settled. Other groups of the "
	    "stream that have not read it never will, and their lag becomes "
	    "unknown. With no, the producers must bound the stream (XADD "
	    "MAXLEN or MINID)." },
	{ "ReplyMax", CONFIG_BYTES, "64M", NULL, 65536, 1024 * MIB, 0,
	    "The longest reply that is accepted; must be more than the largest "
	    "message." },
	{ "ConnectTimeout", CONFIG_SPAN, "5s", NULL, 10000, 0, CONFIG_RELOAD,
	    "How long name lookup, connecting and the TLS handshake may take." },
	{ "ResponseTimeout", CONFIG_SPAN, "5s", NULL, 10000, 0, CONFIG_RELOAD,
	    "How long the server may leave a command unanswered before the "
	    "connection is given up." },
};

const struct config_kind redis_queue_kind = {
	"Queue", true, "Type", "redis", keys, ARRAY_SIZE(keys),
	"A Redis server's stream, list or Sidekiq queue. Retries wait at the "
	"server (for streams and lists in {KEY}:bot:... keys), and so do dead "
	"letters: for streams and lists in the stream DeadLetter=, by default "
	"KEY:dead; for Sidekiq in its dead set.",
};

char *
redis_keys_prefix(const char *key)
{
	const char *open = strchr(key, '{');
	const char *shut = open != NULL ? strchr(open, '}') : NULL;

	if (shut != NULL && shut > open + 1)
		return xasprintf("%s:bot", key);
	return xasprintf("{%s}:bot", key);
}

static char *
default_consumer(const struct config *config, const struct queue *q)
{
	char host[256] = "localhost";

	(void)gethostname(host, sizeof(host) - 1);
	host[sizeof(host) - 1] = '\0';
	return xasprintf("%s:%s:%s", host, config_instance(config), q->name);
}

static void
check(struct redis_queue *rq, struct config *config,
    const struct config_section *s)
{
	struct error err = ERROR_INIT;
	const char *address = config_string(s, "Address");

	if (address != NULL && address_parse(&rq->address, address,
	    REDIS_DEFAULT_PORT, &err) < 0)
		config_problem(config, s, "Address", "Address=%s: %s", address,
		    err.text);
	if (rq->username != NULL && rq->password_file == NULL)
		config_problem(config, s, "Username",
		    "Username= needs PasswordFile= beside it");
	if (rq->mode == &redis_mode_sidekiq && config_is_set(s, "DeadLetter"))
		config_problem(config, s, "DeadLetter", "DeadLetter= has no "
		    "effect with Mode=sidekiq: its dead letters are in the set "
		    "\"dead\", where Sidekiq expects them");
	if (rq->config_key == NULL && config_is_set(s, "Key"))
		config_problem(config, s, "Key", "Key= must not be empty");
}

void
redis_keys_reload(struct redis_queue *rq, const struct config_section *s)
{
	rq->connect_timeout_us = config_span_us(s, "ConnectTimeout");
	rq->response_timeout_us = config_span_us(s, "ResponseTimeout");
}

void
redis_keys_read(struct redis_queue *rq, struct config *config,
    const struct config_section *s)
{
	static const struct redis_mode *const modes[] = {
		[MODE_STREAM] = &redis_mode_stream,
		[MODE_LIST] = &redis_mode_list,
		[MODE_SIDEKIQ] = &redis_mode_sidekiq,
	};
	const char *dead = config_string(s, "DeadLetter");

	rq->mode = modes[config_choice(s, "Mode")];
	tls_config_read(&rq->tls_config, config, s);
	rq->username = config_copy(s, "Username");
	rq->password_file = config_copy(s, "PasswordFile");
	rq->database = config_unsigned(s, "Database");
	rq->config_key = config_copy(s, "Key");
	rq->group = config_copy(s, "Group");
	if (rq->group == NULL)
		rq->group = xstrdup("bot-operator");
	rq->consumer = config_copy(s, "Consumer");
	if (rq->consumer == NULL)
		rq->consumer = default_consumer(config, rq->queue);
	rq->body_field = config_copy(s, "BodyField");
	if (rq->body_field == NULL)
		rq->body_field = xstrdup("body");
	rq->pop_head = config_choice(s, "PopFrom") == 1;
	rq->delete_after = config_bool(s, "Delete");
	rq->reply_max = (size_t)config_bytes(s, "ReplyMax");
	redis_keys_reload(rq, s);
	check(rq, config, s);
	if (rq->config_key == NULL)
		rq->config_key = xstrdup("");	/* a problem by now */
	rq->mode->derive(rq);
	if (rq->dead_key == NULL)
		rq->dead_key = dead != NULL && *dead != '\0' ? xstrdup(dead) :
		    xasprintf("%s:dead", rq->key);
}

void
redis_keys_done(struct redis_queue *rq)
{
	char *all[] = { rq->username, rq->password_file, rq->config_key,
	    rq->group, rq->consumer, rq->body_field, rq->key, rq->prefix,
	    rq->delayed_key, rq->messages_key, rq->dead_key,
	    rq->processing_key, rq->consumers_key, rq->settled_key };

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		free(all[i]);
	tls_config_done(&rq->tls_config);
}
