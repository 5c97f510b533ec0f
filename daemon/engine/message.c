#include "engine/message.h"

#include "base/alloc.h"

#define BLOCK_MESSAGES	((size_t)128)
#define SLOTS_MAX	((size_t)1 << MESSAGE_SLOT_BITS)
#define SLOT_MASK	(SLOTS_MAX - 1)

/*
 * Blocks are never given back: their number is bounded by the caps on messages
 * in flight, and a free message costs nothing but its bytes.
 */
static struct message **blocks;
static size_t nblocks;
static struct message *free_list;	/* linked through worker */
static size_t live;
static uint64_t sequence;

static void
grow(void)
{
	size_t base = nblocks * BLOCK_MESSAGES;
	struct message *block;

	if (base + BLOCK_MESSAGES > SLOTS_MAX)
		BUG("more than %zu messages in flight", SLOTS_MAX);
	block = xcalloc(BLOCK_MESSAGES, sizeof(*block));
	blocks = xreallocarray(blocks, nblocks + 1, sizeof(*blocks));
	blocks[nblocks++] = block;
	for (size_t i = BLOCK_MESSAGES; i-- > 0;) {
		block[i].receipt_number = base + i;	/* the slot, while free */
		block[i].worker = free_list;
		free_list = &block[i];
	}
}

__attribute__((destructor)) static void
blocks_drop(void)
{
	for (size_t i = 0; i < nblocks; i++)
		free(blocks[i]);
	free(blocks);
	blocks = NULL;
	nblocks = 0;
	free_list = NULL;
}

struct message *
message_new(struct queue *q, struct chunk *chunk)
{
	struct message *m;
	uint64_t slot;

	if (free_list == NULL)
		grow();
	m = free_list;
	free_list = m->worker;
	slot = m->receipt_number;
	memset(m, 0, sizeof(*m));
	m->id = ++sequence << MESSAGE_SLOT_BITS | slot;
	m->queue = q;
	m->chunk = chunk_ref(chunk);
	m->attempt = 1;
	m->lease_until_us = USEC_INFINITY;
	list_init(&m->link);
	list_init(&m->lease_link);
	list_init(&m->worker_link);
	list_init(&m->order_link);
	live++;
	return m;
}

void
message_free(struct message *m)
{
	uint64_t slot;

	if (m == NULL)
		return;
	BUG_ON(m->id == 0);
	BUG_ON(list_linked(&m->link) || list_linked(&m->lease_link) ||
	    list_linked(&m->worker_link) || list_linked(&m->order_link));
	slot = m->id & SLOT_MASK;
	chunk_unref(m->chunk);
	m->id = 0;
	m->chunk = NULL;
	m->receipt_number = slot;
	m->worker = free_list;
	free_list = m;
	live--;
}

struct message *
message_find(uint64_t id)
{
	size_t slot = (size_t)(id & SLOT_MASK);
	struct message *m;

	if (slot >= nblocks * BLOCK_MESSAGES)
		return NULL;
	m = &blocks[slot / BLOCK_MESSAGES][slot % BLOCK_MESSAGES];
	return m->id == id && id != 0 ? m : NULL;
}

void
message_visit(message_visit_fn *fn, void *arg)
{
	for (size_t i = 0; i < nblocks; i++)
		for (size_t j = 0; j < BLOCK_MESSAGES; j++)
			if (blocks[i][j].id != 0)
				fn(arg, &blocks[i][j]);
}

size_t
message_count(void)
{
	return live;
}

const char *
message_state_name(enum message_state state)
{
	static const char *const names[MESSAGE_NSTATES] = {
		[MESSAGE_NEW] = "new",
		[MESSAGE_WAITING] = "waiting",
		[MESSAGE_HELD] = "held",
		[MESSAGE_DELAYED] = "delayed",
		[MESSAGE_RUNNING] = "running",
		[MESSAGE_SETTLING] = "settling",
	};

	return (size_t)state < ARRAY_SIZE(names) ? names[state] : "?";
}

const struct attribute *
message_attribute(const struct message *m, const char *name)
{
	for (size_t i = 0; i < m->nattributes; i++)
		if (slice_is(m->attributes[i].name, name))
			return &m->attributes[i];
	return NULL;
}
