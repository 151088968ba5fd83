/*
 * What: fuzz target of warren-perf's URIs: any text is refused with a reason, or its parts are
 * texts within their limits.
 */
#include <string.h>

#include "fuzz.h"

#include "uri.h"

static void must_end(const char part[URI_PART_SIZE])
{
    WR_ASSERT(memchr(part, 0, URI_PART_SIZE) != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct uri_parts parts;
    const char *why = uri_parse(bytes_make(data, size), &parts);
    if (why != NULL) {
        WR_ASSERT(why[0] != 0);
        return 0;
    }
    const char *scheme = parts.tls ? "amqps://" : "amqp://";
    WR_ASSERT(size >= strlen(scheme) && memcmp(data, scheme, strlen(scheme)) == 0);
    must_end(parts.user);
    must_end(parts.password);
    must_end(parts.vhost);
    must_end(parts.host);
    must_end(parts.port);
    WR_ASSERT(parts.host[0] != 0 && parts.port[0] != 0 && parts.vhost[0] != 0);
    return 0;
}
