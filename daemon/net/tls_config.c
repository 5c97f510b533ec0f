#include "net/tls_config.h"

#include "base/alloc.h"

void
tls_config_read(struct tls_config *t, struct config *config,
    const struct config_section *s)
{
	static const char *const needs_tls[] = { "TLSCAFile",
	    "TLSCertificateFile", "TLSKeyFile", "TLSServerName", "TLSVerify" };

	t->enabled = config_bool(s, "TLS");
	t->verify = config_bool(s, "TLSVerify");
	t->ca = config_copy(s, "TLSCAFile");
	t->certificate = config_copy(s, "TLSCertificateFile");
	t->key = config_copy(s, "TLSKeyFile");
	t->name = config_copy(s, "TLSServerName");
	if (t->key != NULL && t->certificate == NULL)
		config_problem(config, s, "TLSKeyFile",
		    "TLSKeyFile= needs TLSCertificateFile= beside it");
	for (size_t i = 0; i < ARRAY_SIZE(needs_tls); i++)
		if (!t->enabled && config_is_set(s, needs_tls[i]))
			config_problem(config, s, needs_tls[i],
			    "%s= has no effect without TLS=yes", needs_tls[i]);
}

void
tls_config_done(struct tls_config *t)
{
	free(t->ca);
	free(t->certificate);
	free(t->key);
	free(t->name);
}

int
tls_config_context(const struct tls_config *t, struct tls_context **context,
    struct error *err)
{
	struct tls_params params = {
		.insecure = !t->verify,
		.ca_file = t->ca,
		.certificate_file = t->certificate,
		.key_file = t->key,
	};

	if (!t->enabled || *context != NULL)
		return 0;
	*context = tls_context_new(&params, err);
	return *context != NULL ? 0 : -EINVAL;
}
