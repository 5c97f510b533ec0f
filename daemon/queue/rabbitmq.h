/*
 * rabbitmq.h - Type=rabbitmq: a queue of a RabbitMQ broker (AMQP 0-9-1).
 */
#ifndef BOT_QUEUE_RABBITMQ_H
#define BOT_QUEUE_RABBITMQ_H

#include "engine/queue.h"

extern const struct config_kind rabbitmq_queue_kind;
extern const struct queue_type rabbitmq_queue_type;

#endif
