/* The smallest catalog that is formed, for targets that need one. */
#ifndef WR_FUZZ_CATALOG_H
#define WR_FUZZ_CATALOG_H

#include "warren/catalog.h"

static inline void fuzz_catalog_apply(struct catalog *c, const struct catalog_command *command)
{
    struct catalog_result result;
    catalog_apply(c, catalog_applied(c) + 1, command, &result);
}

static inline struct catalog *fuzz_catalog_new(void)
{
    struct catalog *c = catalog_new(NULL, NULL, NULL);
    const struct catalog_node_info node = {
        .id = {1, 1}, .member = {1, 2}, .name = BYTES_LITERAL("n@h"), .host = BYTES_LITERAL("h")};
    const struct catalog_command init = {.kind = CATALOG_CLUSTER_INIT,
                                         .u.init = {.cluster = {3, 3},
                                                    .name = BYTES_LITERAL("c"),
                                                    .node = node,
                                                    .vhost = BYTES_LITERAL("/")}};
    fuzz_catalog_apply(c, &init);
    return c;
}

#endif
