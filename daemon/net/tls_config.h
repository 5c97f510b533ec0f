/*
 * tls_config.h - the TLS keys that the sections of several peers share.
 */
#ifndef BOT_NET_TLS_CONFIG_H
#define BOT_NET_TLS_CONFIG_H

#include "config/config.h"
#include "net/tls.h"

struct tls_config {
	bool enabled, verify;
	char *ca, *certificate, *key;	/* files; NULL: not set */
	char *name;			/* to verify; NULL: the address' host */
};

/* Rows for a key table. */
#define TLS_CONFIG_KEYS \
	{ "TLS", CONFIG_BOOL, "no", NULL, 0, 0, 0, \
	    "Speak TLS to the server." }, \
	{ "TLSCAFile", CONFIG_PATH, NULL, NULL, 0, 0, 0, \
	    "Certificates (PEM) that the server's must be signed by. Default: " \
	    "the system's." }, \
	{ "TLSCertificateFile", CONFIG_PATH, NULL, NULL, 0, 0, 0, \
	    "Our own certificate (PEM), when the server asks for one." }, \
	{ "TLSKeyFile", CONFIG_PATH, NULL, NULL, 0, 0, 0, \
	    "Its private key (PEM). Default: in TLSCertificateFile=." }, \
	{ "TLSServerName", CONFIG_STRING, NULL, NULL, 0, 0, 0, \
	    "The name that the server's certificate must have. Default: the " \
	    "host of Address=." }, \
	{ "TLSVerify", CONFIG_BOOL, "yes", NULL, 0, 0, 0, \
	    "Check the server's certificate. Turning it off lets anybody in " \
	    "between read and change everything." }

/* Problems go to the configuration. */
void	tls_config_read(struct tls_config *, struct config *,
	    const struct config_section *);
void	tls_config_done(struct tls_config *);
/* Makes *context when TLS=yes and it is NULL. -EINVAL and *err on failure. */
int	tls_config_context(const struct tls_config *, struct tls_context **context,
	    struct error *err);

#endif
