/*
 * spool.h - the embedded queue: a directory where a file is a message.
 *
 *	Path/tmp/	a good place for producers to write; ours as well
 *	Path/new/	what waits; taken in the order of the names (C locale)
 *	Path/cur/	what the operator has taken and not settled
 *	Path/delayed/	DUE.NAME, retries that wait; DUE is unix milliseconds
 *	Path/dead/	dead letters, each NAME with a record NAME.json of why
 *	Path/.lock	held (flock) by the one operator; its pid is in it
 *
 * To put a message in, write it somewhere on the same file system and rename
 * it into new/.  Writing directly into new/ works too where the operator may
 * see that a writer is still there: it needs the file to be its own, or
 * CAP_LEASE; else a file that is found while it was changed in the last two
 * seconds is left alone for now, and only moving in is safe.  Names that
 * start with '.' are nobody's message.
 *
 * Attributes: besides file, size and mtime, a file whose name ends in
 * ".envelope" carries its own.  Its first line is a JSON object with them, at
 * most 64 KiB; the body is what follows the newline.  One file, so that one
 * rename moves everything; there is no second file that could be missing.
 *
 * Counts: a name that ends in ":aN,cM" is at attempt N after M crashes of a
 * worker; without that it is 1 and 0.  Whatever happens to a message is one
 * rename, so that being killed at any moment loses nothing and doubles
 * nothing.  A dead letter's record is there before the letter is; a record
 * without its letter is a leftover and goes at the next start.
 *
 * A name of more than 200 bytes is shortened, and one that is taken already
 * where it has to go gets "~" and random digits behind it.  In dead/ a name
 * that ends in ".json" has a "~" more, which goes again when it is redriven.
 *
 * Nothing is synced: what the kernel took is safe from our death, not from
 * that of the machine.
 */
#ifndef BOT_QUEUE_SPOOL_H
#define BOT_QUEUE_SPOOL_H

#include "engine/queue.h"

extern const struct config_kind spool_queue_kind;	/* Path= */
extern const struct queue_type spool_queue_type;

#endif
