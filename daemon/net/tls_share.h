/*
 * tls_share.h - what a client's context is made from, so that equal ones can
 * be one; private to tls.c.
 *
 * Reading the system's certificate authorities takes 26 ms and 4 MB, and a
 * daemon with fifty queues would pay that fifty times.
 */
#ifndef BOT_NET_TLS_SHARE_H
#define BOT_NET_TLS_SHARE_H

#include <sys/stat.h>

#include "net/tls.h"

/* What a file was like when it was looked at; all zero: not there. */
struct tls_file {
	char *path;			/* NULL: none is named */
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec changed;
};

enum {
	TLS_FILE_CA,			/* or the bundle of the default store */
	TLS_FILE_CA_FOLDER,		/* of the default store */
	TLS_FILE_CERTIFICATE,
	TLS_FILE_KEY,
	TLS_NFILES,
};

struct tls_origin {
	bool insecure, fresh;
	char *alpn;			/* NULL: none */
	struct tls_file files[TLS_NFILES];
};

/* Looks at the files; to be done before they are read, so that a change in
   between is seen by the next who looks. */
void	tls_origin_init(struct tls_origin *, const struct tls_params *);
void	tls_origin_done(struct tls_origin *);
bool	tls_origin_equal(const struct tls_origin *, const struct tls_origin *);

#endif
