#include "engine/internal.h"

#include "base/alloc.h"

static struct list *
list_of(struct queue *q, enum message_state state, unsigned **ret_count)
{
	switch (state) {
	case MESSAGE_WAITING:
		*ret_count = &q->nwaiting;
		return &q->waiting;
	case MESSAGE_HELD:
		*ret_count = &q->nheld;
		return &q->held;
	case MESSAGE_DELAYED:
		*ret_count = &q->ndelayed;
		return &q->delayed;
	case MESSAGE_RUNNING:
		*ret_count = &q->nrunning;
		return &q->running;
	case MESSAGE_SETTLING:
		*ret_count = &q->nsettling;
		return &q->settling;
	case MESSAGE_NEW:
	case MESSAGE_NSTATES:
		break;
	}
	return NULL;
}

/* The only writer of m->state. */
static void
leave(struct message *m)
{
	unsigned *count;

	if (list_of(m->queue, m->state, &count) == NULL)
		return;
	BUG_ON(*count == 0);
	list_remove(&m->link);
	(*count)--;
}

static struct list *
arrive(struct message *m, enum message_state state)
{
	struct list *list;
	unsigned *count;

	leave(m);
	m->state = state;
	list = list_of(m->queue, state, &count);
	BUG_ON(list == NULL);
	(*count)++;
	return list;
}

void
message_enter(struct message *m, enum message_state state)
{
	list_push_back(arrive(m, state), &m->link);
}

void
message_enter_front(struct message *m)
{
	list_push_front(arrive(m, MESSAGE_WAITING), &m->link);
}

void
message_retire(struct message *m)
{
	struct queue *q = m->queue;
	struct engine *e = q->engine;

	leave(m);
	lease_forget(m);
	BUG_ON(m->order != NULL);
	BUG_ON(e->messages_held == 0 || e->bytes_held < m->charged_bytes);
	e->messages_held--;
	e->bytes_held -= m->charged_bytes;
	q->bytes_held -= m->charged_bytes;
	message_free(m);
}
