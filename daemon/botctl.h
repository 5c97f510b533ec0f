/*
 * botctl.h - what the files of botctl tell one another.
 *
 * botctl is a process of its own and a simple one: it asks, waits, prints.
 * None of the loop is in it.
 */
#ifndef BOT_BOTCTL_H
#define BOT_BOTCTL_H

#include <jansson.h>
#include <stdio.h>

#include "base/buffer.h"

/* Exit codes; scripts rely on them. */
#define BOTCTL_FAILED		1	/* understood, and it did not work */
#define BOTCTL_BAD_USE		2
#define BOTCTL_NO_DAEMON	3
#define BOTCTL_FIRING		4	/* "alerts": something fires */
#define BOTCTL_NOT_SO		5	/* "wait": not within the time */

/* "botctl: text" on stderr. */
void	complain(const char *fmt, ...) _printf_(1, 2);
/* Whether complaints are swallowed: of what may well fail. */
void	complain_mute(bool);
bool	complain_muted(void);

/* Members of documents: "" and 0 when they are not there. */
static inline const char *
text_of(const json_t *j, const char *key)
{
	const char *s = json_string_value(json_object_get(j, key));

	return s != NULL ? s : "";
}

static inline double
number_of(const json_t *j, const char *key)
{
	return json_number_value(json_object_get(j, key));
}

/* ---- botctl.c ---- */

/* Options that only some commands take, as bits. */
#define OPT_ALL		0x01u
#define OPT_DRY_RUN	0x02u
#define OPT_RATE	0x04u
#define OPT_LIMIT	0x08u
#define OPT_AFTER	0x10u
#define OPT_ATTRIBUTE	0x20u
#define OPT_BODY	0x40u
#define OPT_REASON	0x80u
#define OPT_LIST	0x100u
#define OPT_END		0x200u
#define OPT_SEVERITY	0x400u
#define OPT_SINK	0x800u
#define OPT_PERIOD	0x1000u
#define OPT_NOTIFY	0x2000u
#define OPT_TIMEOUT	0x4000u
#define OPT_DEGRADED	0x8000u

struct options {
	const char *config, *socket;
	char *config_made;		/* from -i */
	char *socket_made;		/* from --backup */
	bool json;
	bool slow;			/* the answer may take a minute */
	unsigned given;			/* OPT_* */
	double rate;
	uint64_t limit;
	const char *after, *body, *reason, *end, *severity, *sink, *period;
	uint64_t timeout_us;
	json_t *attributes;
	char **operands;		/* of the command */
	int noperands;
};

struct command {
	const char *name;
	int min, max;			/* operands; max -1: any number */
	unsigned options;
	int (*fn)(const struct command *, struct options *);
	const char *usage;
	const char *help;
};

/* ---- botctl_commands.c ---- */

extern const struct command botctl_commands[];
extern const size_t botctl_ncommands;

struct style;

struct style style_of_stdout(void);
/* 0, or an exit code when stdout is gone. */
int	print(struct buffer *);
/* A request with its command; "command" is the first member. */
json_t	*request_new(const char *command);
/* Ends botctl when the text is not UTF-8. */
void	put_text(json_t *request, const char *key, const char *text);

typedef int item_fn(struct options *, json_t *item, void *arg);

/*
 * One request (the reference is taken) and all its lines.  With --json they
 * are printed as they come; else on_item (may be NULL) sees each {"item":...}.
 * *ret_last is the caller's; NULL when there was no answer.
 */
int	ask(struct options *, json_t *request, item_fn *on_item, void *arg,
	    json_t **ret_last);

/* ---- botctl_dead.c, botctl_alerts.c ---- */

int	cmd_dead_list(const struct command *, struct options *);
int	cmd_dead_show(const struct command *, struct options *);
int	cmd_dead_act(const struct command *, struct options *);
int	cmd_alerts(const struct command *, struct options *);
int	cmd_alert_test(const struct command *, struct options *);
int	cmd_notify(const struct command *, struct options *);
int	cmd_silence(const struct command *, struct options *);

/* ---- botctl_report.c, botctl_report_text.c, botctl_wait.c ---- */

int	cmd_report(const struct command *, struct options *);
int	cmd_wait(const struct command *, struct options *);
/* The report for people; brief: what fits into a message. */
void	report_text(struct buffer *, const json_t *report, bool brief);

/* ---- botctl_client.c ---- */

struct client {
	int fd;
	char *path;
	struct buffer in;
};

/* The first of the n paths where somebody listens. 0, or an exit code after
   having complained. */
int	client_connect(struct client *, char *const *paths, size_t n,
	    const char *instance);
void	client_close(struct client *);
void	client_set_timeout(struct client *, unsigned seconds);
/* 0 or an exit code. Takes the reference. */
int	client_send(struct client *, json_t *request);
/* The next line of the answer; NULL after having complained. */
json_t	*client_receive(struct client *);

/* ---- botctl_format.c ---- */

struct style {
	bool colour;
	unsigned width;		/* of the terminal; 0: do not cut */
};

/*
 * The page for a person at 3 a.m.: how it goes and why first, then tables.
 * before (may be NULL) was the document so many seconds ago: rates are then
 * of that time, else of the last minute.
 */
void	format_status(struct buffer *, const json_t *status,
	    const json_t *before, double seconds, const struct style *);
/* An array of objects as a table; the columns are the first one's keys. */
void	format_objects(struct buffer *, json_t *array, const struct style *);
void	format_dead_list(struct buffer *, json_t *items, const struct style *);
void	format_dead_item(struct buffer *, json_t *item, bool terminal);
/* Text of others, made harmless for a terminal: one line unless lines. */
void	add_clean(struct buffer *, const char *text, size_t n, bool lines);

/* ---- botctl_table.c ---- */

struct table {
	unsigned ncolumns;
	bool right[24];			/* aligned to the right */
	char **cells;			/* row by row, the heads first */
	size_t ncells;
};

/* heads: "QUEUE TYPE >BACKLOG ..."; '>' is aligned to the right, '_' is
   shown as a blank. */
void	table_init(struct table *, const char *heads);
void	table_cell(struct table *, const char *fmt, ...) _printf_(2, 3);
/* Takes the string over. */
void	table_cell_take(struct table *, char *);
void	table_print(struct table *, struct buffer *, const char *indent,
	    const struct style *);
void	table_done(struct table *);

#endif
