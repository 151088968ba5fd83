/*
 * What: local queues: the machine alone, in the memory of one shard; ops are applied as they come.
 * They come and go with the catalog's view: a queue whose record names this node, this boot and
 * this shard lives here. Failure modes: none that is not the node's; with the process all of it is
 * gone (its clients hear so from the view). Ownership: the host owns local homes. Threads: the
 * host's shard.
 */
#include "warren/catalog_settings.h"

#include "group.h"
#include "home.h"
#include "host_internal.h"

static bool is_ours(const struct host *host, const struct catalog_queue *record)
{
    return record != NULL && record->spec.run == CATALOG_RUN_LOCAL &&
           host_is_self(host, record->spec.local.node) && host->boot != 0 &&
           record->spec.local.boot == host->boot && record->spec.local.shard == host->options.shard;
}

void queue_config_fixed(const struct catalog_queue *record, struct queue_config *config)
{
    struct queue_config declared;
    queue_declared_config(record, &declared);
    queue_config_default(config);
    config->auto_delete = declared.auto_delete;
    config->single_active_consumer = declared.single_active_consumer;
    config->active_stays = declared.active_stays;
    config->priority_max = declared.priority_max;
}

/* As it is in the record of a replica's creation. */
void queue_config_put(struct writer *w, const struct queue_config *config)
{
    put_u8(w, config->auto_delete);
    put_u8(w, (config->single_active_consumer ? 1u : 0u) | (config->active_stays ? 2u : 0u));
    put_u8(w, config->priority_max);
    put_le64(w, config->ttl_ms);
    put_le64(w, config->length_max);
    put_le64(w, config->bytes_max);
    put_le64(w, config->expires_ms);
    put_le64(w, (uint64_t)config->delivery_limit);
}

void queue_config_get(struct reader *r, struct queue_config *config)
{
    queue_config_default(config);
    config->auto_delete = rd_u8(r) != 0;
    const uint8_t single = rd_u8(r);
    config->single_active_consumer = (single & 1u) != 0;
    config->active_stays = (single & 2u) != 0;
    config->priority_max = rd_u8(r);
    config->ttl_ms = rd_le64(r);
    config->length_max = rd_le64(r);
    config->bytes_max = rd_le64(r);
    config->expires_ms = rd_le64(r);
    config->delivery_limit = (int64_t)rd_le64(r);
}

void local_view_changed(struct host *host, const struct catalog_queue *before,
                        const struct catalog_queue *after)
{
    if (after == NULL) {
        home_free(before != NULL ? umap_remove(&host->locals, before->id) : NULL);
        return;
    }
    if (!is_ours(host, after)) {
        return;
    }
    struct home *home = umap_get(&host->locals, after->id);
    if (home != NULL) {
        home_config_due(home);
        return;
    }
    struct queue_config config;
    queue_settings_config(after, &config);
    home = home_new(host, after->id, queue_new(&config), NULL);
    umap_put(&host->locals, after->id, home);
    home_upkeep_begin(home);
}
