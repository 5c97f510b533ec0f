/*
 * list.h - doubly linked lists whose links live in their members.
 *
 * A link that is in no list points at itself (list_init), so that taking a
 * member out twice is harmless and "is it queued?" is a question that can be
 * asked.  Nothing here allocates.
 */
#ifndef BOT_BASE_LIST_H
#define BOT_BASE_LIST_H

#include "base/macros.h"

struct list {
	struct list *next, *prev;
};

#define LIST_HEAD(name)	struct list name = { &(name), &(name) }

static inline void
list_init(struct list *l)
{
	l->next = l->prev = l;
}

static inline bool
list_empty(const struct list *head)
{
	return head->next == head;
}

/* True while the link is in some list. */
static inline bool
list_linked(const struct list *l)
{
	return l->next != l;
}

static inline void
list_insert_between(struct list *l, struct list *prev, struct list *next)
{
	l->prev = prev;
	l->next = next;
	prev->next = l;
	next->prev = l;
}

static inline void
list_push_back(struct list *head, struct list *l)
{
	list_insert_between(l, head->prev, head);
}

static inline void
list_push_front(struct list *head, struct list *l)
{
	list_insert_between(l, head, head->next);
}

static inline void
list_remove(struct list *l)
{
	l->prev->next = l->next;
	l->next->prev = l->prev;
	list_init(l);
}

static inline void
list_move_back(struct list *head, struct list *l)
{
	list_remove(l);
	list_push_back(head, l);
}

/* Moves all of from to the end of head. */
static inline void
list_splice_back(struct list *head, struct list *from)
{
	if (list_empty(from))
		return;
	from->next->prev = head->prev;
	head->prev->next = from->next;
	from->prev->next = head;
	head->prev = from->prev;
	list_init(from);
}

static inline struct list *
list_first(const struct list *head)
{
	return list_empty(head) ? NULL : head->next;
}

static inline struct list *
list_pop_front(struct list *head)
{
	struct list *l = list_first(head);

	if (l != NULL)
		list_remove(l);
	return l;
}

#define list_entry(l, type, member)	container_of(l, type, member)

#define list_first_entry(head, type, member) \
	(list_empty(head) ? NULL : list_entry((head)->next, type, member))

#define list_foreach(l, head) \
	for ((l) = (head)->next; (l) != (head); (l) = (l)->next)

/* The body may remove (or free) l, but not tmp. */
#define list_foreach_safe(l, tmp, head) \
	for ((l) = (head)->next, (tmp) = (l)->next; (l) != (head); \
	    (l) = (tmp), (tmp) = (l)->next)

#endif
