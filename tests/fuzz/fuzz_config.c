/*
 * What: fuzz target of the configuration file: any text is taken, or refused with the line's
 * number; what is taken is within its limits.
 */
#include <string.h>

#include "fuzz.h"

#include "config.h"
#include "warren/err.h"
#include "warren/mem.h"

static void on_ignored(void *ctx, uint32_t line, const char *key)
{
    uint64_t *lines = ctx;
    *lines += line + strlen(key);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config *c = wr_calloc(1, sizeof *c);
    char errmsg[512] = "";
    uint64_t lines = 0;
    config_defaults(c);
    int rc = config_parse(c, bytes_make(data, size), on_ignored, &lines, errmsg);
    WR_ASSERT(rc == 0 || (rc == WR_E_INVALID && strncmp(errmsg, "line ", 5) == 0));
    if (rc == 0) {
        rc = config_finish(c, errmsg);
        WR_ASSERT((rc == 0) == (errmsg[0] == 0));
    }
    if (rc == 0) {
        WR_ASSERT(c->tcp.count <= CONFIG_LISTENERS_MAX && c->peer_count <= CONFIG_PEERS_MAX);
        WR_ASSERT(c->shards <= 64 && c->frame_max <= 16777216 && c->cluster_listener.port != 0);
        WR_ASSERT(strlen(c->nodename) < sizeof c->nodename && strchr(c->nodename, '@') != NULL);
        for (uint32_t i = 0; i < c->peer_count; i++) {
            WR_ASSERT(c->peers[i].addr.port != 0 && c->peers[i].addr.host[0] != 0);
        }
    }
    wr_free(c);
    return 0;
}
