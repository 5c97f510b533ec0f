/*
 * botctl dead: what became of messages that nobody could work on.
 */
#include "botctl.h"

#include "base/alloc.h"

static int
collect_item(struct options *o _unused_, json_t *item, void *arg)
{
	(void)json_array_append(arg, item);
	return 0;
}

int
cmd_dead_list(const struct command *cmd _unused_, struct options *o)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	struct style style = style_of_stdout();
	json_t *request = request_new("dead-list"), *last;
	json_t *items = json_array();
	size_t n;
	int r;

	if (o->given & OPT_LIMIT)
		(void)json_object_set_new(request, "limit",
		    json_integer((json_int_t)o->limit));
	put_text(request, "queue", o->operands[0]);
	if (o->given & OPT_AFTER)
		put_text(request, "after", o->after);
	r = ask(o, request, collect_item, items, &last);
	n = json_array_size(items);
	if (r == 0 && !o->json) {
		if (n == 0)
			buffer_printf(&b, "no dead letters in %s\n",
			    o->operands[0]);
		else
			format_dead_list(&b, items, &style);
		if (n != 0 && json_is_true(json_object_get(last, "more")))
			buffer_printf(&b, "more: botctl dead list %s --after "
			    "%s\n", o->operands[0], json_string_value(
			    json_object_get(json_array_get(items, n - 1),
			    "id")));
		r = print(&b);
	}
	json_decref(items);
	json_decref(last);
	return r;
}

static int
show_item(struct options *o _unused_, json_t *item, void *arg _unused_)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;

	format_dead_item(&b, item, isatty(STDOUT_FILENO) == 1);
	return print(&b);
}

int
cmd_dead_show(const struct command *cmd _unused_, struct options *o)
{
	json_t *request = request_new("dead-show"), *last;
	int r;

	put_text(request, "queue", o->operands[0]);
	put_text(request, "id", o->operands[1]);
	r = ask(o, request, show_item, NULL, &last);
	json_decref(last);
	return r;
}

static int
say_acted(struct options *o, json_t *item, void *arg)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	const char *id = json_string_value(json_object_get(item, "id"));
	const char *type =
	    json_string_value(json_object_get(item, "error_type"));
	const char *error = json_string_value(json_object_get(item, "error"));
	const char *verb = arg;

	buffer_printf(&b, "%s ", error != NULL ? "failed" :
	    o->given & OPT_DRY_RUN ? "would be" : verb);
	if (error == NULL && (o->given & OPT_DRY_RUN))
		buffer_printf(&b, "%s ", verb);
	add_clean(&b, id, strlen(id), false);
	if (error != NULL) {
		buffer_add_str(&b, ": ");
		add_clean(&b, error, strlen(error), false);
	} else {
		buffer_add_str(&b, " (");
		add_clean(&b, type, strlen(type), false);
		buffer_add_char(&b, ')');
	}
	buffer_add_char(&b, '\n');
	return print(&b);
}

int
cmd_dead_act(const struct command *cmd, struct options *o)
{
	bool purge = strcmp(cmd->name, "dead purge") == 0;
	bool all = o->given & OPT_ALL;
	char verb[] = "redriven";
	json_t *request, *last, *ids, *id;
	size_t i;
	int r;

	if (all == (o->noperands > 1)) {
		complain("%s: name the ids, or all of them with --all",
		    cmd->name);
		return BOTCTL_BAD_USE;
	}
	if (purge)
		memcpy(verb, "purged", sizeof("purged"));
	request = request_new(purge ? "dead-purge" : "dead-redrive");
	ids = json_array();
	for (int k = 1; k < o->noperands; k++)
		(void)json_array_append_new(ids, json_string(o->operands[k]));
	if (all)
		(void)json_object_set_new(request, "all", json_true());
	else
		(void)json_object_set(request, "ids", ids);
	json_decref(ids);
	if (o->given & OPT_DRY_RUN)
		(void)json_object_set_new(request, "dry_run", json_true());
	if (o->given & OPT_RATE)
		(void)json_object_set_new(request, "rate", json_real(o->rate));
	if (o->given & OPT_LIMIT)
		(void)json_object_set_new(request, "limit",
		    json_integer((json_int_t)o->limit));
	put_text(request, "queue", o->operands[0]);
	r = ask(o, request, say_acted, verb, &last);
	if (last != NULL && !o->json) {
		json_array_foreach(json_object_get(last, "not_found"), i, id)
			fprintf(stderr, "not found: %s\n",
			    json_string_value(id));
		printf("%s%.0f %s, %.0f failed\n", o->given & OPT_DRY_RUN ?
		    "dry run: would be " : "", json_number_value(
		    json_object_get(last, "acted")), verb, json_number_value(
		    json_object_get(last, "failed")));
	}
	json_decref(last);
	return r;
}
