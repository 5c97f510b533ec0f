/*
 * aws_profile.h - the text of ~/.aws/config and ~/.aws/credentials.  Pure.
 *
 *	[profile NAME]			config; "[default]" needs no prefix
 *	[NAME]				credentials
 *	key = value			keys in any case; a later one wins
 *	  more				continuation: "value\nmore"
 *	key =
 *	  sub = value			sub-properties of a key without a value
 *	# comment, ; comment		lines; after a value only behind a space
 *
 * Where the CLI (botocore) and the newer SDKs differ, the text that either
 * takes is taken: properties may be indented, comment lines too, names may be
 * quoted, sections and keys may come twice (they merge), " ;" ends a value.
 * [profile default] replaces [default].  In config, sections that nobody knows
 * are passed over, as both do.  Names of sections count by case.
 *
 * A line that makes no sense refuses the whole text, with the line's number:
 * a typo is not silently another account.  Texts of errors hold nothing of the
 * text, which may be a secret.
 */
#ifndef BOT_CODEC_AWS_PROFILE_H
#define BOT_CODEC_AWS_PROFILE_H

#include "base/error.h"
#include "base/slice.h"

struct aws_profiles;

enum aws_profile_file {
	AWS_FILE_CONFIG = 1,
	AWS_FILE_CREDENTIALS,
};

enum aws_section {
	AWS_SECTION_PROFILE = 1,
	AWS_SECTION_SERVICES,		/* config only, like the next */
	AWS_SECTION_SSO_SESSION,
};

/* Copies the text, whose size its owner has bounded. NULL and *err (REJECTED,
   "aws_profile", "line 3: ..."). */
struct aws_profiles *aws_profiles_parse(enum aws_profile_file, struct slice text,
	    struct error *err);
/* Wipes the text. Accepts NULL. */
void	aws_profiles_free(struct aws_profiles *);

/* All accept NULL: a file that is not there.  Strings live as long as p. */
bool	aws_profiles_has(const struct aws_profiles *, enum aws_section,
	    const char *name);
/* NULL when it is not there; "" is a value. key in lower case. */
const char *aws_profiles_get(const struct aws_profiles *, enum aws_section,
	    const char *name, const char *key);
const char *aws_profiles_get_sub(const struct aws_profiles *, enum aws_section,
	    const char *name, const char *key, const char *sub);

/* Every property that was read, also those that later ones replace; sub is
   NULL for one that is no sub-property. */
typedef void aws_profiles_visit_fn(void *arg, enum aws_section, const char *name,
	    const char *key, const char *sub, const char *value);
void	aws_profiles_visit(const struct aws_profiles *, aws_profiles_visit_fn *,
	    void *arg);

#endif
