/*
 * What: the configuration of a queue machine and its encoding, which is part of snapshots and is
 * the argument of a CONFIG op. Frozen layouts:
 *
 *   version 2: u8 2; u8 flags (1 auto-delete, 2 single active consumer, 4 dead letter, 8 the active
 * one stays); u8 priority_max; u8 overflow; varints ttl_ms + 1, length_max + 1, bytes_max + 1,
 * expires_ms + 1
 *   ("none" is 0), dedup_window_ms, delivery_limit + 1
 *   version 1, only read: u8 1; u8 flags (1, 2); u8 priority_max; varints ttl_ms, length_max,
 *   bytes_max, expires_ms, delivery_limit + 1
 *
 * Failure modes: untrusted bytes give WR_E_CORRUPT, a newer layout WR_E_VERSION.
 */
#include "queue_internal.h"

#include "warren/err.h"

#define CONFIG_VERSION      2u
#define CONFIG_AUTO_DELETE  1u
#define CONFIG_SINGLE       2u
#define CONFIG_DEAD_LETTER  4u
#define CONFIG_STAYS        8u
#define CONFIG_FLAGS_KNOWN  15u
#define CONFIG_FLAGS_1      3u /* Of version 1. */
#define DELIVERY_LIMIT_NONE (-1)

void queue_config_default(struct queue_config *config)
{
    *config = (struct queue_config){
        .auto_delete = false,
        .single_active_consumer = false,
        .active_stays = false,
        .dead_letter = false,
        .priority_max = 0,
        .overflow = QUEUE_DROP_HEAD,
        .ttl_ms = UINT64_MAX,
        .length_max = UINT64_MAX,
        .bytes_max = UINT64_MAX,
        .expires_ms = UINT64_MAX,
        .dedup_window_ms = 0,
        .delivery_limit = DELIVERY_LIMIT_NONE,
    };
}

void queue__config_put(struct writer *w, const struct queue_config *config)
{
    WR_ASSERT(config->delivery_limit >= DELIVERY_LIMIT_NONE);
    WR_ASSERT(config->delivery_limit < INT64_MAX);
    WR_ASSERT(config->overflow <= QUEUE_REJECT_PUBLISH_DLX);
    put_u8(w, CONFIG_VERSION);
    put_u8(w, (uint8_t)((config->auto_delete ? CONFIG_AUTO_DELETE : 0u) |
                        (config->single_active_consumer ? CONFIG_SINGLE : 0u) |
                        (config->active_stays ? CONFIG_STAYS : 0u) |
                        (config->dead_letter ? CONFIG_DEAD_LETTER : 0u)));
    put_u8(w, config->priority_max);
    put_u8(w, config->overflow);
    put_varint(w, config->ttl_ms + 1);
    put_varint(w, config->length_max + 1);
    put_varint(w, config->bytes_max + 1);
    put_varint(w, config->expires_ms + 1);
    put_varint(w, config->dedup_window_ms);
    put_varint(w, (uint64_t)(config->delivery_limit + 1));
}

/* The limits; in version 2 (plus_one) an absent one is 0. */
static void get_limits(struct reader *r, struct queue_config *config, bool plus_one)
{
    const uint64_t less = plus_one ? 1 : 0;
    config->ttl_ms = rd_varint(r) - less;
    config->length_max = rd_varint(r) - less;
    config->bytes_max = rd_varint(r) - less;
    config->expires_ms = rd_varint(r) - less;
}

/* Reads one; false (and the reader failed) when the bytes make no sense. */
bool queue__config_get(struct reader *r, struct queue_config *ret_config)
{
    struct queue_config config;
    queue_config_default(&config);
    const uint8_t version = rd_u8(r);
    const bool is_first = version == 1;
    const uint8_t flags = rd_u8(r);
    config.priority_max = rd_u8(r);
    config.overflow = is_first ? (uint8_t)QUEUE_DROP_HEAD : rd_u8(r);
    get_limits(r, &config, !is_first);
    config.dedup_window_ms = is_first ? 0 : rd_varint(r);
    const uint64_t delivery_limit = rd_varint(r);
    if (r->failed || version == 0 || version > CONFIG_VERSION ||
        (flags & ~(is_first ? CONFIG_FLAGS_1 : CONFIG_FLAGS_KNOWN)) != 0 ||
        config.overflow > QUEUE_REJECT_PUBLISH_DLX || delivery_limit > INT64_MAX) {
        rd_fail(r);
        return false;
    }
    config.auto_delete = (flags & CONFIG_AUTO_DELETE) != 0;
    config.single_active_consumer = (flags & CONFIG_SINGLE) != 0;
    config.active_stays = (flags & CONFIG_STAYS) != 0;
    config.dead_letter = (flags & CONFIG_DEAD_LETTER) != 0;
    config.delivery_limit = (int64_t)delivery_limit - 1;
    *ret_config = config;
    return true;
}

void queue_config_encode(struct buf **out, const struct queue_config *config)
{
    struct writer w = {*out};
    queue__config_put(&w, config);
    *out = w.buf;
}

int queue__config_decode(struct bytes encoded, struct queue_config *ret_config)
{
    if (encoded.size > 0 && encoded.data[0] > CONFIG_VERSION) {
        return WR_E_VERSION;
    }
    struct reader r = reader_from(encoded);
    struct queue_config config;
    if (!queue__config_get(&r, &config) || !rd_done(&r)) {
        return WR_E_CORRUPT;
    }
    *ret_config = config;
    return 0;
}
