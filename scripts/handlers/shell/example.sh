#!/bin/sh
# An example for [Pool example] Command=/path/to/example.sh: run once a message.
#
# The body is on stdin; BOT_QUEUE, BOT_ATTEMPT, BOT_MESSAGE_ID, BOT_TIMEOUT_MS
# and BOT_ATTR_<NAME> say more, BOT_ATTRIBUTES is all of them as JSON.
#
# exit 0 done | 75 retry | 69 retry, external_api | 65 dead, invalid_format
# 100 dead | anything else: retry.  The end of stderr is kept as the reason.
set -eu

name=$(cat)
case $name in
'')
	echo "no name in the body" >&2
	exit 65
	;;
retry*)
	if [ "$BOT_ATTEMPT" = 1 ]; then
		echo "the mail server said 503" >&2
		exit 69
	fi
	;;
dead*)
	echo "nobody wants this" >&2
	exit 100
	;;
esac
echo "hello, $name (message ${BOT_MESSAGE_ID:-?} of $BOT_QUEUE)"
