/*
 * sim_internal.h - what the broker and the queue types tell one another.
 */
#ifndef BOT_TESTS_SIM_INTERNAL_H
#define BOT_TESTS_SIM_INTERNAL_H

#include "sim/sim_queue.h"

/* The only writer of a message's place. */
void	sim_move(struct sim_message *, enum sim_place, uint64_t until_us);
/* Its lease is over or its receipt void: ready again. */
void	sim_lose(struct sim_message *);
struct sim_delivery *sim_delivery_of(const struct sim_message *,
	    uint64_t receipt);
/* There is something to fetch; NULL when nobody is attached. */
void	sim_queue_wake(struct sim_queue *);

#endif
