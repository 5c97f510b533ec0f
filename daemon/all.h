/*
 * all.h - what this build consists of: every section's keys, every kind of
 * queue and handler.  The daemon, botctl and the manual are made from it.
 */
#ifndef BOT_ALL_H
#define BOT_ALL_H

#include "engine/engine.h"

extern const struct config_kind *const bot_schema[];
extern const struct engine_types bot_types;

#define BOT_CONFIG_DEFAULT	SYSCONFDIR "/bot-operator/bot-operator.conf"

/* Names that Notify= of [Alert NAME] may have; NULL-terminated. */
extern const char *const bot_sinks[];

/* Loads and checks all that can be checked without opening anything. */
struct config *bot_config_load(const char *path);
/* Name=, else the file's name. Lives as long as the tree. */
const char *operator_name(const struct config *);
/*
 * Where the control socket is: Control=, else NAME.sock in $RUNTIME_DIRECTORY,
 * in /run/bot-operator for root, in $XDG_RUNTIME_DIR for another user, or in
 * /tmp/bot-operator-UID. Owned by the caller (free).
 */
char	*operator_control_path(const struct config *);

/* STATE/NAME.WHAT with State=: for what must survive a restart. Owned by the
   caller (free). */
char	*operator_state_path(const struct config *, const char *what);

#endif
