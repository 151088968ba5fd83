/*
 * What: commands of policies, parameters, limits, topic permissions and seats, and definitions
 * written as text: "max-length=5 overflow=reject-publish ha-params=[a,b] x=true": numbers,
 * true/false, lists of names, else strings.
 */
#ifndef WR_TEST_CATALOG_POLICY_FIXTURE_H
#define WR_TEST_CATALOG_POLICY_FIXTURE_H

#include "catalog_fixture.h"

#include "warren/wire_table.h"

static inline void put_text_value(struct writer *w, struct bytes text)
{
    int64_t number = 0;
    if (str_parse_i64(text, INT64_MIN, INT64_MAX, &number) == 0) {
        wire_value_put_int64(w, number);
    } else if (bytes_eq_cstr(text, "true") || bytes_eq_cstr(text, "false")) {
        wire_value_put_bool(w, text.size == 4);
    } else if (bytes_eq_cstr(text, "null")) {
        wire_value_put_void(w);
    } else if (bytes_eq_cstr(text, "1.5") || bytes_eq_cstr(text, "1000.0")) {
        wire_value_put_double(w, text.size == 3 ? 1.5 : 1000.0);
    } else if (bytes_eq_cstr(text, "{}")) {
        wire_value_put_table(w, BYTES_NONE);
    } else if (bytes_starts_with(text, BYTES_LITERAL("["))) {
        const uint32_t mark = wire_value_put_array_begin(w);
        struct bytes rest = bytes_make(text.data + 1, text.size - 2);
        struct bytes item;
        while (rest.size > 0) {
            (void)str_split(rest, ',', &item, &rest);
            if (str_parse_i64(item, INT64_MIN, INT64_MAX, &number) == 0) {
                wire_value_put_int64(w, number);
            } else {
                wire_value_put_longstr(w, item);
            }
        }
        wire_value_put_end(w, mark);
    } else {
        wire_value_put_longstr(w, text);
    }
}

/* Appends the fields; the prefix goes before each key ("x-" for arguments). */
static inline void put_definition(struct writer *w, const char *prefix, const char *text)
{
    struct bytes rest = bytes_from_cstr(text);
    struct bytes field;
    while (rest.size > 0) {
        struct bytes key;
        struct bytes value;
        (void)str_split(rest, ' ', &field, &rest);
        (void)str_split(field, '=', &key, &value);
        char name[256];
        struct strbuf s;
        strbuf_init(&s, name, sizeof name);
        strbuf_printf(&s, "%s%.*s", prefix, NAME(key));
        wire_put_key(w, strbuf_bytes(&s));
        put_text_value(w, value);
    }
}

static inline int do_policy_in(struct fixture *f, const char *vhost, const char *name,
                               const char *pattern, const char *definition, int64_t priority,
                               int apply_to, bool operator_policy)
{
    struct writer w;
    writer_init(&w, 256);
    put_definition(&w, "", definition);
    const struct catalog_command c = {.kind = CATALOG_PUT_POLICY,
                                      .u.policy = {.vhost = B(vhost),
                                                   .name = B(name),
                                                   .pattern = B(pattern),
                                                   .definition = writer_bytes(&w),
                                                   .priority = priority,
                                                   .apply_to = (uint8_t)apply_to,
                                                   .operator_policy = operator_policy}};
    const int status = apply(f, &c);
    writer_deinit(&w);
    return status;
}

static inline int do_policy(struct fixture *f, const char *name, const char *pattern,
                            const char *definition, int64_t priority)
{
    return do_policy_in(f, "/", name, pattern, definition, priority, CATALOG_APPLY_ALL, false);
}

static inline int do_operator_policy(struct fixture *f, const char *name, const char *pattern,
                                     const char *definition)
{
    return do_policy_in(f, "/", name, pattern, definition, 0, CATALOG_APPLY_QUEUES, true);
}

static inline int do_delete_policy(struct fixture *f, const char *vhost, const char *name,
                                   bool operator_policy)
{
    const struct catalog_command c = {
        .kind = CATALOG_DELETE_POLICY,
        .u.policy = {.vhost = B(vhost), .name = B(name), .operator_policy = operator_policy}};
    return apply(f, &c);
}

/* A queue with arguments, on node 1 in its boot `boot`, or as a group on nodes 1 to 3. */
static inline int do_queue_args(struct fixture *f, const char *name, int type,
                                const char *arguments, bool exclusive)
{
    struct catalog_member member = {{f->index + 1, 1}, node_id(1), false};
    struct writer w;
    writer_init(&w, 256);
    put_definition(&w, "x-", arguments);
    struct catalog_command c = {.kind = CATALOG_DECLARE_QUEUE,
                                .u.queue = {.vhost = B("/"),
                                            .name = B(name),
                                            .arguments = writer_bytes(&w),
                                            .type = (uint8_t)type,
                                            .run = CATALOG_RUN_GROUP,
                                            .durable = true,
                                            .group = {&member, 1, 1, node_id(1)}}};
    if (exclusive) {
        c.u.queue.run = CATALOG_RUN_LOCAL;
        c.u.queue.durable = false;
        c.u.queue.exclusive = true;
        c.u.queue.owner.boot = 1;
        c.u.queue.owner.connection = 7;
        c.u.queue.local.node = node_id(1);
        c.u.queue.local.boot = 1;
    }
    const int status = apply(f, &c);
    writer_deinit(&w);
    return status;
}

static inline int do_vhost_limits(struct fixture *f, const char *vhost, int64_t connections,
                                  int64_t queues)
{
    const struct catalog_command c = {.kind = CATALOG_SET_VHOST_LIMITS,
                                      .u.vhost_limits = {B(vhost), {connections, queues}}};
    return apply(f, &c);
}

static inline int do_user_limits(struct fixture *f, const char *user, int64_t connections,
                                 int64_t channels)
{
    const struct catalog_command c = {.kind = CATALOG_SET_USER_LIMITS,
                                      .u.user_limits = {B(user), {connections, channels}}};
    return apply(f, &c);
}

static inline int do_topic_permission(struct fixture *f, const char *user, const char *vhost,
                                      const char *exchange, bool set)
{
    const struct catalog_command c = {
        .kind = set ? CATALOG_SET_TOPIC_PERMISSION : CATALOG_CLEAR_TOPIC_PERMISSION,
        .u.topic_permission = {B(user), B(vhost), B(exchange), B("^w"), B("^r")}};
    return apply(f, &c);
}

static inline int do_parameter(struct fixture *f, const char *vhost, const char *component,
                               const char *name, const char *value, bool put)
{
    struct writer w;
    writer_init(&w, 64);
    put_text_value(&w, B(value));
    const struct catalog_command c = {
        .kind = put ? CATALOG_PUT_PARAMETER : CATALOG_DELETE_PARAMETER,
        .u.parameter = {B(vhost), B(component), B(name), writer_bytes(&w)}};
    const int status = apply(f, &c);
    writer_deinit(&w);
    return status;
}

static inline int do_seat(struct fixture *f, uint32_t boot, uint64_t connection, const char *vhost,
                          const char *user, uint32_t channels, bool open)
{
    const struct catalog_command c = {
        .kind = CATALOG_PUT_SEAT, .u.seat = {boot, connection, B(vhost), B(user), channels, open}};
    return apply(f, &c);
}

static inline int do_drop_seat(struct fixture *f, uint32_t boot, uint64_t connection)
{
    const struct catalog_command c = {.kind = CATALOG_DROP_SEAT,
                                      .u.seat = {.boot = boot, .connection = connection}};
    return apply(f, &c);
}

#endif
