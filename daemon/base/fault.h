/*
 * fault.h - named places where tests make things go wrong.
 *
 * Compiled in by --enable-fault-injection only; else fault() is the constant
 * false and costs nothing.  Points are armed by the environment:
 *
 *	BOT_FAULTS="redis.settle.after_write=3:kill,stream.read=1:error"
 *
 * NAME=N:ACTION acts at the N-th time the point is passed (N = 0: each time).
 * Actions: "error" (fault() returns true and the caller fails the operation
 * as its comment says), "kill" (SIGKILL to ourselves, for crash tests),
 * "delay" (the point takes 20 ms, for the slow-callback log).
 */
#ifndef BOT_BASE_FAULT_H
#define BOT_BASE_FAULT_H

#include "base/macros.h"

#ifdef BOT_FAULT_INJECTION
bool	fault_hit(const char *name);
/* Replaces what the environment armed; NULL clears.  For tests. */
void	fault_arm(const char *spec);
#define fault(name)	unlikely(fault_hit(name))
#else
#define fault(name)	false
#endif

#endif
