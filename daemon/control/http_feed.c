#include "control/http_feed.h"

bool
http_origin_same(const struct http_origin *a, const struct http_origin *b)
{
	return a->family != 0 && a->family == b->family &&
	    memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

void
http_feed_init(struct http_feed *f, unsigned max, unsigned max_per_address,
    size_t max_unsent)
{
	*f = (struct http_feed){ .max = max,
		.max_per_address = max_per_address, .max_unsent = max_unsent };
	list_init(&f->subscribers);
}

void
http_feed_send(struct http_feed *f, struct slice bytes)
{
	struct list *l, *tmp;

	list_foreach_safe(l, tmp, &f->subscribers) {
		struct http_subscriber *s =
		    list_entry(l, struct http_subscriber, link);

		if (stream_pending(s->stream) > f->max_unsent) {
			f->dropped++;
			s->cut(s);
			continue;
		}
		stream_write(s->stream, bytes.p, bytes.n);
	}
}

static bool
has_room(const struct http_feed *f, const struct http_origin *origin)
{
	unsigned same = 0;
	struct list *l;

	if (f->n >= f->max)
		return false;
	list_foreach(l, &f->subscribers)
		same += http_origin_same(origin,
		    &list_entry(l, struct http_subscriber, link)->origin);
	return same < f->max_per_address;
}

bool
http_feed_join(struct http_feed *f, struct http_subscriber *s)
{
	if (!has_room(f, &s->origin)) {
		f->refused++;
		return false;
	}
	s->feed = f;
	list_push_back(&f->subscribers, &s->link);
	f->n++;
	return true;
}

void
http_feed_leave(struct http_subscriber *s)
{
	if (s->feed == NULL)
		return;
	list_remove(&s->link);
	s->feed->n--;
	s->feed = NULL;
}
