/*
 * mkmanual - prints the key tables as manual source; runs at build time.
 */
#include <stdio.h>

#include "all.h"

int
main(void)
{
	_cleanup_buffer_ struct buffer out = BUFFER_INIT;

	config_manual(bot_schema, &out);
	return fwrite(buffer_head(&out), 1, buffer_len(&out), stdout) !=
	    buffer_len(&out);
}
