/*
 * What: makes the message that goes to a dead-letter exchange.
 *
 * Happy path: x-death gets an entry for (queue, reason) at its front, or the one that is there
 * moves to the front and counts one more; x-first-death-* are set with the first death only,
 * x-last-death-* with each; the expiration goes out of the properties and into the entry.
 *
 * Invariants: 1. only headers that the broker made (MESSAGE_DEATHS) are believed; 2. all other
 * headers and properties come through byte for byte, in their order.
 */
#include "dead.h"

#include "warren/catalog_types.h"
#include "warren/wire_props.h"
#include "warren/wire_table.h"

/* The headers that belong to dead-lettering. */
static const char *const first_names[] = {"x-first-death-reason", "x-first-death-queue",
                                          "x-first-death-exchange"};
static const char *const last_names[] = {"x-last-death-reason", "x-last-death-queue",
                                         "x-last-death-exchange"};
#define COMPANIONS 3u

const char *dead_letter_reason(enum queue_death reason)
{
    switch (reason) {
    case QUEUE_DIED_REJECTED:
        return "rejected";
    case QUEUE_DIED_EXPIRED:
        return "expired";
    case QUEUE_DIED_MAXLEN:
        return "maxlen";
    case QUEUE_DIED_DELIVERY_LIMIT:
        return "delivery_limit";
    }
    WR_UNREACHABLE();
}

static bool is_one_of(struct bytes key, const char *const names[COMPANIONS])
{
    for (size_t i = 0; i < COMPANIONS; i++) {
        if (bytes_eq_cstr(key, names[i])) {
            return true;
        }
    }
    return false;
}

static bool entry_is(struct bytes entry, struct bytes queue, const char *reason)
{
    struct bytes value;
    return wire_table_get_string(entry, "queue", &value) && bytes_eq(value, queue) &&
           wire_table_get_string(entry, "reason", &value) && bytes_eq_cstr(value, reason);
}

/* --- x-death ---------------------------------------------------------------------------------- */

static void put_new_entry(struct writer *w, const struct message *message, struct bytes headers,
                          const struct wire_props *props, const struct dead_letter *death)
{
    const uint32_t entry = wire_value_put_table_begin(w);
    wire_table_put_int64(w, "count", 1);
    wire_table_put_cstr(w, "reason", dead_letter_reason(death->reason));
    wire_table_put_string(w, "queue", death->queue);
    wire_table_put_timestamp(w, "time", death->time_s);
    wire_table_put_string(w, "exchange", message_exchange(message));
    const uint32_t keys = wire_table_put_array_begin(w, "routing-keys");
    wire_value_put_longstr(w, message_key(message));
    struct bytes copies;
    if (wire_table_get_array(headers, "CC", &copies)) {
        struct wire_table_iter it;
        struct wire_value item;
        struct bytes none;
        wire_array_iter_init(&it, copies);
        while (wire_table_iter_next(&it, &none, &item)) {
            if (item.type == WIRE_FIELD_LONGSTR) {
                wire_value_put_longstr(w, item.bytes);
            }
        }
    }
    wire_value_put_end(w, keys);
    if (wire_props_has(props, WIRE_PROP_EXPIRATION)) {
        wire_table_put_string(w, "original-expiration", props->expiration);
    }
    wire_value_put_end(w, entry);
}

static void put_counted_entry(struct writer *w, struct bytes before)
{
    struct wire_table_iter it;
    struct wire_value value;
    struct bytes key;
    const uint32_t entry = wire_value_put_table_begin(w);
    wire_table_iter_init(&it, before);
    while (wire_table_iter_next(&it, &key, &value)) {
        if (bytes_eq_cstr(key, "count") && wire_value_is_integer(&value)) {
            wire_table_put_int64(w, "count",
                                 value.integer < INT64_MAX ? value.integer + 1 : INT64_MAX);
        } else {
            wire_put_key(w, key);
            wire_value_put(w, &value);
        }
    }
    wire_value_put_end(w, entry);
}

static void put_deaths(struct writer *w, const struct message *message, struct bytes headers,
                       const struct wire_props *props, const struct dead_letter *death)
{
    const char *reason = dead_letter_reason(death->reason);
    struct bytes before = BYTES_NONE;
    struct wire_table_iter it;
    struct wire_value item;
    struct bytes none;
    bool counted = false;
    if ((message_flags(message) & MESSAGE_DEATHS) != 0) {
        (void)wire_table_get_array(headers, "x-death", &before);
    }
    const uint32_t deaths = wire_table_put_array_begin(w, "x-death");
    wire_array_iter_init(&it, before);
    while (!counted && wire_table_iter_next(&it, &none, &item)) {
        if (item.type == WIRE_FIELD_TABLE && entry_is(item.bytes, death->queue, reason)) {
            put_counted_entry(w, item.bytes);
            counted = true;
        }
    }
    if (!counted) {
        put_new_entry(w, message, headers, props, death);
    }
    wire_array_iter_init(&it, before);
    while (wire_table_iter_next(&it, &none, &item)) {
        if (item.type == WIRE_FIELD_TABLE && !entry_is(item.bytes, death->queue, reason)) {
            wire_value_put_table(w, item.bytes);
        }
    }
    wire_value_put_end(w, deaths);
}

/* --- the message ------------------------------------------------------------------------------ */

static void put_companions(struct writer *w, const char *const names[COMPANIONS],
                           const struct message *message, const struct dead_letter *death)
{
    wire_table_put_cstr(w, names[0], dead_letter_reason(death->reason));
    wire_table_put_string(w, names[1], death->queue);
    wire_table_put_string(w, names[2], message_exchange(message));
}

static void put_headers(struct writer *w, const struct message *message,
                        const struct wire_props *props, const struct dead_letter *death)
{
    const bool ours = (message_flags(message) & MESSAGE_DEATHS) != 0;
    const struct bytes headers = props->headers;
    struct wire_table_iter it;
    struct wire_value value;
    struct bytes key;
    wire_table_iter_init(&it, headers);
    while (wire_table_iter_next(&it, &key, &value)) {
        if (bytes_eq_cstr(key, "x-death") || is_one_of(key, last_names) ||
            (!ours && is_one_of(key, first_names)) ||
            (death->has_key && bytes_eq_cstr(key, "CC"))) {
            continue;
        }
        wire_put_key(w, key);
        wire_value_put(w, &value);
    }
    put_deaths(w, message, headers, props, death);
    if (!ours) {
        put_companions(w, first_names, message, death);
    }
    put_companions(w, last_names, message, death);
}

struct message dead_letter_make(const struct message *message, const struct dead_letter *death)
{
    struct wire_props props = WIRE_PROPS_NONE;
    struct writer headers;
    struct writer raw;
    if (wire_props_decode(message_props(message), &props) != WIRE_OK) {
        props = WIRE_PROPS_NONE; /* Validated when it was published: cannot be; the body counts. */
    }
    writer_init(&headers, props.headers.size + 256);
    put_headers(&headers, message, &props, death);
    props.headers = writer_bytes(&headers);
    props.flags |= WIRE_PROP_HEADERS;
    props.flags &= (uint16_t)~WIRE_PROP_EXPIRATION;
    writer_init(&raw, wire_props_size(&props));
    wire_props_put(&raw, &props);
    const struct message_parts parts = {
        .exchange = death->exchange,
        .key = death->has_key ? death->key : message_key(message),
        .props = writer_bytes(&raw),
        .bcc = death->has_key ? BYTES_NONE : message_bcc(message),
        .ttl_ms = MESSAGE_TTL_NONE,
        .flags = message_flags(message) | MESSAGE_DEATHS,
        .priority = message_priority(message),
    };
    const struct bytes body = message_body(message);
    const uint32_t size = (uint32_t)message_record_size(&parts, body.size);
    struct buf *record = buf_new(size);
    uint8_t *at = message_write(record->data, &parts, (uint32_t)body.size);
    if (body.size > 0) {
        memcpy(at, body.data, body.size);
    }
    record->size = size;
    writer_deinit(&raw);
    writer_deinit(&headers);
    return (struct message){.record = slice_of_buf(record)};
}

bool dead_letter_is_cycle(struct bytes headers, struct bytes queue)
{
    struct bytes deaths;
    struct bytes value;
    struct bytes none;
    struct wire_table_iter it;
    struct wire_value item;
    if (!wire_table_get_array(headers, "x-death", &deaths)) {
        return false;
    }
    wire_array_iter_init(&it, deaths);
    while (wire_table_iter_next(&it, &none, &item)) {
        if (item.type != WIRE_FIELD_TABLE) {
            continue;
        }
        if (wire_table_get_string(item.bytes, "reason", &value) &&
            bytes_eq_cstr(value, "rejected")) {
            return false; /* Somebody decided that: he may do so as often as he likes. */
        }
        if (wire_table_get_string(item.bytes, "queue", &value) && bytes_eq(value, queue)) {
            return true;
        }
    }
    return false;
}

bool dead_settings_of(const struct catalog_queue *queue, struct dead_settings *ret_settings)
{
    const struct queue_settings *s = &queue->settings;
    *ret_settings = (struct dead_settings){
        .exchange = s->dead_letter_exchange,
        .has_key = s->has_dead_letter_key,
        .key = s->dead_letter_key,
        .strategy = s->dead_letter_strategy == SETTINGS_AT_LEAST_ONCE  ? DEAD_AT_LEAST_ONCE
                    : s->dead_letter_strategy == SETTINGS_AT_MOST_ONCE ? DEAD_AT_MOST_ONCE
                                                                       : DEAD_DEFAULT,
    };
    return s->has_dead_letter_exchange;
}
