/*
 * What: local queues: the machine alone, in the memory of one shard; ops are applied as they come.
 * They come and go with the catalog's view: a queue whose record names this node, this boot and this shard lives here.
 * Failure modes: none that is not the node's; with the process all of it is gone (its clients hear so from the view).
 * Ownership: the host owns local homes. Threads: the host's shard.
 */
#include "replica_internal.h"

void queue_config_of(const struct catalog_queue *record, struct queue_config *config);

static bool is_ours(const struct host *host, const struct catalog_queue *record)
{
    return record != NULL && record->spec.run == CATALOG_RUN_LOCAL && host_is_self(host, record->spec.local.node) && host->boot != 0 &&
           record->spec.local.boot == host->boot && record->spec.local.shard == host->options.shard;
}

void queue_config_of(const struct catalog_queue *record, struct queue_config *config)
{
    queue_config_default(config);
    config->auto_delete = record->spec.auto_delete;
}

void local_view_changed(struct host *host, const struct catalog_queue *before, const struct catalog_queue *after)
{
    if (after != NULL) {
        if (is_ours(host, after) && umap_get(&host->locals, after->id) == NULL) {
            struct queue_config config;
            queue_config_of(after, &config);
            umap_put(&host->locals, after->id, home_new(host, after->id, queue_new(&config), NULL));
        }
        return;
    }
    if (before != NULL) {
        home_free(umap_remove(&host->locals, before->id));
    }
}
