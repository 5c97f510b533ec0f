/*
 * role.h - what "botctl promote" and "botctl demote" said last.
 *
 * One word in a file beside the control socket, in the runtime directory: so
 * it survives a crash, a restart and an upgrade (somebody must go on working,
 * and it is whoever was told to), and is forgotten when the machine starts.
 * The unit of standbys has RuntimeDirectoryPreserve=restart: there a stop
 * forgets it too.  Then --standby and Standby= count again: who comes back must
 * not take over work that somebody else was given meanwhile.
 */
#ifndef BOT_CONTROL_ROLE_H
#define BOT_CONTROL_ROLE_H

enum role {
	ROLE_CONFIGURED = 0,	/* nothing was said */
	ROLE_ACTIVE,
	ROLE_STANDBY,
};

/* "/run/x.role" for "/run/x.sock"; to be freed. */
char	*role_path(const char *control);
enum role role_read(const char *path);
/* 0 or -errno. */
int	role_write(const char *path, enum role);

#endif
