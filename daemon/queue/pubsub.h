/*
 * pubsub.h - the queue that is a subscription of Google Cloud Pub/Sub.
 */
#ifndef BOT_QUEUE_PUBSUB_H
#define BOT_QUEUE_PUBSUB_H

#include "engine/queue.h"

extern const struct config_kind pubsub_queue_kind;
extern const struct queue_type pubsub_queue_type;

#endif
