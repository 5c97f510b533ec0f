/*
 * sqs.h - Type=sqs: a queue of AWS SQS, standard or FIFO, or of anything that
 * speaks its JSON protocol.
 */
#ifndef BOT_QUEUE_SQS_H
#define BOT_QUEUE_SQS_H

#include "engine/queue.h"

extern const struct config_kind sqs_queue_kind;
extern const struct queue_type sqs_queue_type;

#endif
