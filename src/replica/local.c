/*
 * What: local queues: the machine alone, in the memory of one shard; ops are applied as they come.
 * They come and go with the catalog's view: a queue whose record names this node, this boot and
 * this shard lives here. Failure modes: none that is not the node's; with the process all of it is
 * gone (its clients hear so from the view). Ownership: the host owns local homes. Threads: the
 * host's shard.
 */
#include "warren/wire_table.h"

#include "replica_internal.h"

static bool is_ours(const struct host *host, const struct catalog_queue *record)
{
    return record != NULL && record->spec.run == CATALOG_RUN_LOCAL &&
           host_is_self(host, record->spec.local.node) && host->boot != 0 &&
           record->spec.local.boot == host->boot && record->spec.local.shard == host->options.shard;
}

void queue_config_fixed(const struct catalog_queue *record, struct queue_config *config)
{
    const struct bytes arguments = record->spec.arguments;
    int64_t value = 0;
    queue_config_default(config);
    config->auto_delete = record->spec.auto_delete;
    (void)wire_table_get_bool(arguments, "x-single-active-consumer",
                              &config->single_active_consumer);
    if (wire_table_get_integer(arguments, "x-max-priority", &value) && value > 0) {
        config->priority_max = value > 255 ? 255 : (uint8_t)value;
    }
}

static void get_limit(struct bytes arguments, const char *key, uint64_t *limit)
{
    int64_t value;
    if (wire_table_get_integer(arguments, key, &value) && value >= 0) {
        *limit = (uint64_t)value;
    }
}

void queue_config_of(const struct catalog_queue *record, struct queue_config *config)
{
    const struct bytes arguments = record->spec.arguments;
    struct bytes text;
    queue_config_fixed(record, config);
    get_limit(arguments, "x-message-ttl", &config->ttl_ms);
    get_limit(arguments, "x-max-length", &config->length_max);
    get_limit(arguments, "x-max-length-bytes", &config->bytes_max);
    get_limit(arguments, "x-expires", &config->expires_ms);
    get_limit(arguments, "x-dedup-window", &config->dedup_window_ms);
    config->dead_letter = wire_table_get_string(arguments, "x-dead-letter-exchange", &text);
    if (wire_table_get_string(arguments, "x-overflow", &text)) {
        config->overflow = bytes_eq_cstr(text, "reject-publish")       ? QUEUE_REJECT_PUBLISH
                           : bytes_eq_cstr(text, "reject-publish-dlx") ? QUEUE_REJECT_PUBLISH_DLX
                                                                       : QUEUE_DROP_HEAD;
    }
    if (record->spec.type == CATALOG_QUORUM) {
        int64_t value = 20;
        (void)wire_table_get_integer(arguments, "x-delivery-limit", &value);
        config->delivery_limit = value < 0 ? -1 : value;
    }
}

/* As it is in the record of a replica's creation. */
void queue_config_put(struct writer *w, const struct queue_config *config)
{
    put_u8(w, config->auto_delete);
    put_u8(w, config->single_active_consumer);
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
    config->single_active_consumer = rd_u8(r) != 0;
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
    if (after != NULL && is_ours(host, after)) {
        struct home *home = umap_get(&host->locals, after->id);
        if (home != NULL) {
            home_config_due(home);
            return;
        }
        struct queue_config config;
        queue_config_of(after, &config);
        home = home_new(host, after->id, queue_new(&config), NULL);
        umap_put(&host->locals, after->id, home);
        home_upkeep_begin(home);
        return;
    }
    if (after != NULL) {
        return;
    }
    if (before != NULL) {
        home_free(umap_remove(&host->locals, before->id));
    }
}
