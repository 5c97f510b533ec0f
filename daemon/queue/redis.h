/*
 * redis.h - Redis streams, lists and Sidekiq's lists as a kind of queue.
 *
 * Redis 6.2 or later, one server (no cluster), plain or TLS.
 */
#ifndef BOT_QUEUE_REDIS_H
#define BOT_QUEUE_REDIS_H

#include "engine/queue.h"

extern const struct config_kind redis_queue_kind;	/* [Queue NAME] */
extern const struct queue_type redis_queue_type;

#endif
