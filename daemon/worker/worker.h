/*
 * worker.h - handlers that run in processes of their own: Exec=, Command=,
 * Module=.  Implements engine/pool.h; docs/worker-protocol.md is the wire.
 */
#ifndef BOT_WORKER_WORKER_H
#define BOT_WORKER_WORKER_H

#include "engine/pool.h"

extern const struct config_kind worker_pool_kind;	/* its [Pool NAME] keys */
extern const struct handler_type worker_handler_type;

/*
 * Where the bot-worker program is.  By default next to our own executable
 * (so that a build tree works), else in PKGLIBEXECDIR.  NULL restores that.
 * The string must outlive the pools.
 */
void	worker_set_runner(const char *path);

/* Before the first pool starts: gives workers control groups of their own
   where systemd delegates them. */
void	worker_setup_cgroups(void);

#endif
