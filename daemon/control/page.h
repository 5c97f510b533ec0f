/*
 * page.h - the page for people, at "/".
 *
 * One self-contained document: page/page.html with the style and the script
 * within it (page/; made into page_files.c when this is built) and the status
 * as plain tables, which is what a browser without script keeps.  The script
 * takes their place as soon as the first event has come (events.h).  Whatever
 * the documents hold is escaped; what they lack is left out.
 */
#ifndef BOT_CONTROL_PAGE_H
#define BOT_CONTROL_PAGE_H

#include <jansson.h>

#include "base/buffer.h"

/* status: the status document; log: as observer_log() has it, or NULL. */
void	page_add(struct buffer *, const json_t *status, const json_t *log);
/* Its Content-Security-Policy: only this script and this style, by hash. */
const char *page_policy(void);

#endif
