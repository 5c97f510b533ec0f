#include "net/tls_share.h"

#include <openssl/x509.h>

#include "base/alloc.h"

static void
look_at(struct tls_file *f, const char *path)
{
	struct stat st;

	if (path == NULL)
		return;
	f->path = xstrdup(path);
	if (stat(path, &st) < 0)
		return;
	f->dev = st.st_dev;
	f->ino = st.st_ino;
	f->size = st.st_size;
	f->changed = st.st_mtim;
}

/* As OpenSSL looks for it: by_file.c, by_dir.c. */
static const char *
default_path(const char *variable, const char *built_in)
{
	const char *path = secure_getenv(variable);

	return path != NULL ? path : built_in;
}

void
tls_origin_init(struct tls_origin *o, const struct tls_params *p)
{
	*o = (struct tls_origin){ .insecure = p->insecure,
		.fresh = p->fresh };
	if (p->alpn != NULL)
		o->alpn = xstrdup(p->alpn);
	if (p->ca_file != NULL) {
		look_at(&o->files[TLS_FILE_CA], p->ca_file);
	} else {
		look_at(&o->files[TLS_FILE_CA], default_path(
		    X509_get_default_cert_file_env(),
		    X509_get_default_cert_file()));
		look_at(&o->files[TLS_FILE_CA_FOLDER], default_path(
		    X509_get_default_cert_dir_env(),
		    X509_get_default_cert_dir()));
	}
	look_at(&o->files[TLS_FILE_CERTIFICATE], p->certificate_file);
	look_at(&o->files[TLS_FILE_KEY], p->key_file);
}

void
tls_origin_done(struct tls_origin *o)
{
	free(o->alpn);
	for (size_t i = 0; i < TLS_NFILES; i++)
		free(o->files[i].path);
	*o = (struct tls_origin){ .insecure = false };
}

static bool
same_text(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool
same_file(const struct tls_file *a, const struct tls_file *b)
{
	return same_text(a->path, b->path) && a->dev == b->dev &&
	    a->ino == b->ino && a->size == b->size &&
	    a->changed.tv_sec == b->changed.tv_sec &&
	    a->changed.tv_nsec == b->changed.tv_nsec;
}

bool
tls_origin_equal(const struct tls_origin *a, const struct tls_origin *b)
{
	if (a->insecure != b->insecure || a->fresh != b->fresh ||
	    !same_text(a->alpn, b->alpn))
		return false;
	for (size_t i = 0; i < TLS_NFILES; i++)
		if (!same_file(&a->files[i], &b->files[i]))
			return false;
	return true;
}
