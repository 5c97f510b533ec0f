/*
 * What the service's errors mean, and what a person can do about them.
 */
#include <stdio.h>

#include "base/alloc.h"
#include "queue/sqs_impl.h"

static const struct meaning {
	const char *name;
	enum error_class class;
	const char *advice;
} meanings[] = {
	{ "AccessDenied", ERROR_AUTH, "the identity lacks a permission on the "
	    "queue, or its policy denies it" },
	{ "AccessDeniedException", ERROR_AUTH, "the identity lacks a "
	    "permission on the queue, or its policy denies it" },
	{ "QueueDoesNotExist", ERROR_REJECTED, "there is no such queue in this "
	    "region and account: check Name= or QueueUrl=, Region=, "
	    "AccountId=" },
	{ "NonExistentQueue", ERROR_REJECTED, "there is no such queue in this "
	    "region and account: check Name= or QueueUrl=, Region=, "
	    "AccountId=" },
	{ "QueueDeletedRecently", ERROR_TRANSIENT, "the queue was deleted "
	    "within the last minute" },
	{ "InvalidClientTokenId", ERROR_AUTH, "the service does not know the "
	    "access key: deleted, deactivated, or of another partition" },
	{ "UnrecognizedClientException", ERROR_AUTH, "the service does not "
	    "know the access key or the session token" },
	{ "SignatureDoesNotMatch", ERROR_AUTH, "the secret key does not belong "
	    "to the access key, or something changed the request on its way" },
	{ "InvalidSignatureException", ERROR_AUTH, "the secret key does not "
	    "belong to the access key, or something changed the request on "
	    "its way" },
	{ "MissingAuthenticationToken", ERROR_AUTH, "the request was not "
	    "signed: there are no credentials" },
	{ "IncompleteSignature", ERROR_AUTH, "something on the way has changed "
	    "the signature" },
	{ "ExpiredToken", ERROR_AUTH, "the session token has expired and no "
	    "newer one was to be had" },
	{ "ExpiredTokenException", ERROR_AUTH, "the session token has expired "
	    "and no newer one was to be had" },
	{ "RequestTimeTooSkewed", ERROR_AUTH, "our clock differs too much from "
	    "the service's: check the time of this machine" },
	{ "RequestExpired", ERROR_AUTH, "our clock differs too much from the "
	    "service's: check the time of this machine" },
	{ "OptInRequired", ERROR_AUTH, "the account is not signed up for SQS "
	    "in this region" },
	{ "OverLimit", ERROR_THROTTLED, "too many messages of the queue are in "
	    "flight (about 120,000): who receives and does not delete?" },
	{ "RequestThrottled", ERROR_THROTTLED, "the service asks for fewer "
	    "requests" },
	{ "ThrottlingException", ERROR_THROTTLED, "the service asks for fewer "
	    "requests" },
	{ "Throttling", ERROR_THROTTLED, "the service asks for fewer "
	    "requests" },
	{ "KmsThrottled", ERROR_THROTTLED, "the key service asks for fewer "
	    "requests" },
	{ "KmsAccessDenied", ERROR_AUTH, "the identity may not use the queue's "
	    "KMS key (kms:Decrypt; to send also kms:GenerateDataKey)" },
	{ "KmsDisabled", ERROR_REJECTED, "the queue's KMS key is disabled" },
	{ "KmsNotFound", ERROR_REJECTED, "the queue's KMS key is gone" },
	{ "KmsOptInRequired", ERROR_AUTH, "the account is not signed up for "
	    "KMS" },
	{ "KmsInvalidState", ERROR_REJECTED, "the queue's KMS key is in a "
	    "state that does not allow its use (scheduled for deletion?)" },
	{ "KmsInvalidKeyUsage", ERROR_REJECTED, "the queue's KMS key is not "
	    "for encryption" },
	{ "PurgeQueueInProgress", ERROR_THROTTLED, "a queue can be purged only "
	    "once in 60 seconds" },
	{ "ReceiptHandleIsInvalid", ERROR_TRANSIENT, "it is not ours any more: "
	    "its visibility time-out had ended" },
	{ "MessageNotInflight", ERROR_TRANSIENT, "it is not ours any more: its "
	    "visibility time-out had ended" },
	{ "InvalidParameterValue", ERROR_REJECTED, "the service refuses a "
	    "value" },
	{ "InvalidMessageContents", ERROR_REJECTED, "the body has characters "
	    "that SQS does not take" },
	{ "UnsupportedOperation", ERROR_REJECTED, "the service does not have "
	    "this operation" },
	{ "UnknownOperationException", ERROR_REJECTED, "what answers at the "
	    "endpoint does not speak the JSON protocol of SQS" },
	{ "SerializationException", ERROR_PROTOCOL, "the service could not "
	    "read our request" },
	{ "ServiceUnavailable", ERROR_TRANSIENT, "the service is unavailable" },
	{ "InternalFailure", ERROR_TRANSIENT, "the service has failed" },
	{ "InternalError", ERROR_TRANSIENT, "the service has failed" },
	{ "RequestTimeout", ERROR_TRANSIENT, "the service has waited in vain "
	    "for the request" },
};

static const struct meaning *
meaning_of(struct slice name)
{
	for (size_t i = 0; i < ARRAY_SIZE(meanings); i++)
		if (slice_is(name, meanings[i].name))
			return &meanings[i];
	return NULL;
}

void
sqs_error(struct slice name, unsigned status, struct slice text,
    struct error *err)
{
	const struct meaning *m = meaning_of(name);
	char code[48], said[120];
	enum error_class class = status >= 500 ? ERROR_TRANSIENT :
	    status == 429 ? ERROR_THROTTLED : status == 401 || status == 403 ?
	    ERROR_AUTH : ERROR_REJECTED;

	error_quote(text, said, sizeof(said));
	error_quote(name, code, sizeof(code));
	if (name.n == 0)
		snprintf(code, sizeof(code), "HTTP_%u", status);
	if (m != NULL)
		error_set(err, m->class, m->name, "%s%s%s%s", m->advice,
		    said[0] != '\0' ? " (" : "", said,
		    said[0] != '\0' ? ")" : "");
	else
		error_set(err, class, code, "the service answered %s (HTTP "
		    "%u)%s%s", code, status, said[0] != '\0' ? ": " : "",
		    said);
}

/* Of single entries: the same again is futile. */
bool
sqs_error_is_final(struct slice code)
{
	return slice_is(code, "ReceiptHandleIsInvalid") ||
	    slice_is(code, "MessageNotInflight") ||
	    slice_is(code, "InvalidParameterValue") ||
	    slice_is(code, "InvalidIdFormat");
}
