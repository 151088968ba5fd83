/* What: an AMQP URI taken apart. Pure: names are resolved by whoever asks. */
#ifndef WR_PERF_URI_H
#define WR_PERF_URI_H

#include "warren/bytes.h"

#define URI_PART_SIZE 256

struct uri_parts { /* decoded, each ends with a NUL; what the URI does not say is the default */
    char user[URI_PART_SIZE], password[URI_PART_SIZE], vhost[URI_PART_SIZE];
    char host[URI_PART_SIZE], port[URI_PART_SIZE];
    bool tls; /* amqps:// */
};

/* amqp://user:password@host:port/vhost or amqps://..., all but the first part optional. NULL, or
 * what is wrong with it: a text that lives for ever. */
const char *uri_parse(struct bytes text, struct uri_parts *ret_parts);

#endif
