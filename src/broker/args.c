/*
 * What: queue and consumer arguments: which are known, their types and ranges per queue type, and
 * equivalence on re-declaration, with RabbitMQ's texts. One table of arguments. Spec:
 * docs/queues.md.
 */
#include <stdio.h>

#include "broker_internal.h"

#define MS_MAX INT64_C(315360000000)

enum arg_kind { ARG_INT, ARG_INT_POSITIVE, ARG_TEXT, ARG_BOOL, ARG_ENUM };
enum { FOR_CLASSIC = 1, FOR_QUORUM = 2, FOR_STREAM = 4, FOR_ALL = 7 };

struct arg {
    const char *name;
    enum arg_kind kind;
    uint8_t types; /* queue types that know it */
    int64_t min, max;
    const char *values;    /* ARG_ENUM: separated by spaces */
    const char *bad_value; /* reason for a value outside; NULL: the queue mode's, which names it */
};

/* In the order in which RabbitMQ looks at them: when two are at fault, the first is told. */
static const struct arg args_table[] = {
    {"x-expires", ARG_INT_POSITIVE, FOR_CLASSIC | FOR_QUORUM, 1, MS_MAX, NULL, NULL},
    {"x-message-ttl", ARG_INT, FOR_CLASSIC | FOR_QUORUM, 0, MS_MAX, NULL, NULL},
    {"x-dead-letter-exchange", ARG_TEXT, FOR_CLASSIC | FOR_QUORUM, 0, 0, NULL, NULL},
    {"x-dead-letter-routing-key", ARG_TEXT, FOR_CLASSIC | FOR_QUORUM, 0, 0, NULL, NULL},
    {"x-dead-letter-strategy", ARG_ENUM, FOR_QUORUM, 0, 0, "at-most-once at-least-once",
     "invalid_dlx_strategy"},
    {"x-max-length", ARG_INT, FOR_CLASSIC | FOR_QUORUM, 0, INT64_MAX, NULL, NULL},
    {"x-max-length-bytes", ARG_INT, FOR_ALL, 0, INT64_MAX, NULL, NULL},
    {"x-max-in-memory-length", ARG_INT, FOR_QUORUM, 0, INT64_MAX, NULL, NULL},
    {"x-max-in-memory-bytes", ARG_INT, FOR_QUORUM, 0, INT64_MAX, NULL, NULL},
    {"x-max-priority", ARG_INT, FOR_CLASSIC, 0, 255, NULL, NULL},
    {"x-overflow", ARG_ENUM, FOR_CLASSIC | FOR_QUORUM, 0, 0,
     "drop-head reject-publish reject-publish-dlx", "invalid_overflow"},
    {"x-queue-mode", ARG_ENUM, FOR_CLASSIC, 0, 0, "default lazy", NULL},
    {"x-queue-version", ARG_INT, FOR_CLASSIC, 1, 2, NULL, NULL},
    {"x-single-active-consumer", ARG_BOOL, FOR_CLASSIC | FOR_QUORUM, 0, 0, NULL, NULL},
    {"x-queue-type", ARG_TEXT, FOR_ALL, 0, 0, NULL, NULL}, /* its value: args_queue_type */
    {"x-quorum-initial-group-size", ARG_INT_POSITIVE, FOR_QUORUM, 1, INT64_MAX, NULL, NULL},
    {"x-queue-leader-locator", ARG_ENUM, FOR_ALL, 0, 0,
     "client-local balanced random least-leaders", "invalid_queue_locator_arg"},
    {"x-queue-master-locator", ARG_ENUM, FOR_CLASSIC, 0, 0, "min-masters client-local random",
     "invalid_queue_locator_arg"},
    {"x-delivery-limit", ARG_INT, FOR_QUORUM, INT64_MIN, INT64_MAX, NULL, NULL},
    {"x-quorum-target-group-size", ARG_INT_POSITIVE, FOR_QUORUM, 1, INT64_MAX, NULL, NULL},
    {"x-consumer-timeout", ARG_INT, FOR_CLASSIC | FOR_QUORUM, 0, INT64_MAX, NULL, NULL},
    /* Warren's own: */
    {"x-dedup-window", ARG_INT, FOR_CLASSIC | FOR_QUORUM, 0, MS_MAX, NULL, NULL},
    {"x-delayed-messages", ARG_BOOL, FOR_CLASSIC | FOR_QUORUM, 0, 0, NULL, NULL},
    {"x-max-age", ARG_TEXT, FOR_STREAM, 0, 0, NULL, NULL},
    {"x-stream-max-segment-size-bytes", ARG_INT, FOR_STREAM, 0, INT64_C(3000000000), NULL, NULL},
    {"x-stream-filter-size-bytes", ARG_INT, FOR_STREAM, 16, 255, NULL, NULL},
    {"x-initial-cluster-size", ARG_INT_POSITIVE, FOR_STREAM, 1, 64, NULL, NULL},
};

static const char *type_module(uint8_t type)
{
    return type == CATALOG_QUORUM   ? "rabbit_quorum_queue"
           : type == CATALOG_STREAM ? "rabbit_stream_queue"
                                    : "rabbit_classic_queue";
}

static bool in_list(const char *values, struct bytes value)
{
    struct bytes rest = bytes_from_cstr(values);
    struct bytes head;
    while (rest.size > 0) {
        (void)str_split(rest, ' ', &head, &rest);
        if (bytes_eq(head, value)) {
            return true;
        }
    }
    return false;
}

/* Writes the reason why the value will not do; false = it will. */
static bool bad_value(const struct arg *arg, const struct wire_value *v, char *why, size_t size)
{
    const char *type = wire_field_name(v->type);
    switch (arg->kind) {
    case ARG_INT:
    case ARG_INT_POSITIVE:
        if (!wire_value_is_integer(v)) {
            (void)snprintf(why, size, "\"expected integer, got %s\"", type);
            return true;
        }
        if (arg->kind == ARG_INT_POSITIVE && v->integer == 0) {
            (void)snprintf(why, size, "{value_zero,0}");
            return true;
        }
        if (v->integer < 0 && (arg->min == 0 || arg->min == 1)) {
            (void)snprintf(why, size, "{value_negative,%lld}", (long long)v->integer);
            return true;
        }
        if (strcmp(arg->name, "x-queue-version") == 0 &&
            (v->integer < arg->min || v->integer > arg->max)) {
            (void)snprintf(why, size, "\"unsupported queue version '%lld'\"",
                           (long long)v->integer);
            return true;
        }
        if (v->integer < arg->min || v->integer > arg->max) {
            (void)snprintf(why, size,
                           strcmp(arg->name, "x-max-priority") == 0 ? "{max_value_exceeded,%lld}"
                                                                    : "{value_too_large,%lld}",
                           (long long)v->integer);
            return true;
        }
        return false;
    case ARG_TEXT:
        if (v->type != WIRE_FIELD_LONGSTR) {
            (void)snprintf(why, size, "{unacceptable_type,%s}", type);
            return true;
        }
        return false;
    case ARG_BOOL:
        if (v->type != WIRE_FIELD_BOOL) {
            (void)snprintf(why, size, "{unacceptable_type,%s}", type);
            return true;
        }
        return false;
    case ARG_ENUM:
        if (v->type != WIRE_FIELD_LONGSTR) {
            (void)snprintf(why, size, "{unacceptable_type,%s}", type);
            return true;
        }
        if (!in_list(arg->values, v->bytes)) {
            if (arg->bad_value == NULL) {
                (void)snprintf(why, size, "\"unsupported queue mode '%.*s'\"", FMT(v->bytes));
            } else {
                (void)snprintf(why, size, "%s", arg->bad_value);
            }
            return true;
        }
        return false;
    }
    WR_UNREACHABLE();
}

bool args_queue_type(struct bytes vhost, struct bytes name, struct bytes args, uint8_t *ret_type,
                     struct broker_fault *fault)
{
    struct wire_value v;
    *ret_type = CATALOG_CLASSIC;
    if (!wire_table_find(args, "x-queue-type", &v)) {
        return true;
    }
    if (v.type != WIRE_FIELD_LONGSTR) {
        fault_set(fault, 406, false,
                  "invalid arg 'x-queue-type' for queue '%.*s' in vhost '%.*s': "
                  "{unacceptable_type,%s}",
                  FMT(name), FMT(vhost), wire_field_name(v.type));
        return false;
    }
    if (bytes_eq_cstr(v.bytes, "quorum")) {
        *ret_type = CATALOG_QUORUM;
    } else if (bytes_eq_cstr(v.bytes, "stream")) {
        fault_set(fault, 540, true, "stream queues are not supported in this version");
        return false;
    } else if (v.bytes.size > 0 && !bytes_eq_cstr(v.bytes, "classic") &&
               !bytes_eq_cstr(v.bytes, "undefined")) {
        fault_set(fault, 406, false,
                  "invalid arg 'x-queue-type' for queue '%.*s' in vhost '%.*s': \"unsupported "
                  "queue type '%.*s'\"",
                  FMT(name), FMT(vhost), FMT(v.bytes));
        return false;
    }
    return true;
}

static bool check_properties(struct bytes vhost, struct bytes name, uint32_t flags,
                             struct broker_fault *fault)
{
    if ((flags & BROKER_AUTO_DELETE) != 0) {
        fault_set(fault, 406, false,
                  "invalid property 'auto-delete' for queue '%.*s' in vhost '%.*s'", FMT(name),
                  FMT(vhost));
    } else if ((flags & BROKER_EXCLUSIVE) != 0) {
        fault_set(fault, 406, false,
                  "invalid property 'exclusive-owner' for queue '%.*s' in vhost '%.*s'", FMT(name),
                  FMT(vhost));
    } else if ((flags & BROKER_DURABLE) == 0) {
        fault_set(fault, 406, false,
                  "invalid property 'non-durable' for queue '%.*s' in vhost '%.*s'", FMT(name),
                  FMT(vhost));
    } else {
        return true;
    }
    return false;
}

static bool check_letters(struct bytes vhost, struct bytes name, struct bytes args,
                          struct broker_fault *fault)
{
    struct wire_value v;
    if (!wire_table_find(args, "x-dead-letter-exchange", &v) || v.type == WIRE_FIELD_LONGSTR) {
        return true;
    }
    fault_set(fault, 406, false,
              "invalid type '%s' for arg 'x-dead-letter-exchange' in queue '%.*s' in vhost '%.*s'",
              wire_field_name(v.type), FMT(name), FMT(vhost));
    return false;
}

/* What the type knows; one that it does not know is refused later, whatever its value. */
static bool check_values(struct bytes vhost, struct bytes name, struct bytes args, uint8_t bit,
                         struct broker_fault *fault)
{
    char why[300];
    struct wire_value v;
    struct wire_value letters;
    for (size_t i = 0; i < WR_ARRAY_SIZE(args_table); i++) {
        const struct arg *arg = &args_table[i];
        if ((arg->types & bit) == 0 || !wire_table_find(args, arg->name, &v)) {
            continue;
        }
        bool bad = bad_value(arg, &v, why, sizeof why);
        if (!bad && strcmp(arg->name, "x-dead-letter-routing-key") == 0 &&
            !wire_table_find(args, "x-dead-letter-exchange", &letters)) {
            (void)snprintf(why, sizeof why, "routing_key_but_no_dlx_defined");
            bad = true;
        }
        if (bad) {
            fault_set(fault, 406, false, "invalid arg '%s' for queue '%.*s' in vhost '%.*s': %s",
                      arg->name, FMT(name), FMT(vhost), why);
            return false;
        }
    }
    return true;
}

static bool is_of_other_types(struct bytes arg, uint8_t bit)
{
    for (size_t i = 0; i < WR_ARRAY_SIZE(args_table); i++) {
        if (bytes_eq_cstr(arg, args_table[i].name)) {
            return (args_table[i].types & bit) == 0;
        }
    }
    return false;
}

/* Of several the one that the client names first is told. */
static bool check_names(struct bytes vhost, struct bytes name, struct bytes args, uint8_t type,
                        uint8_t bit, struct broker_fault *fault)
{
    struct wire_table_iter it;
    struct wire_value v;
    struct bytes arg;
    wire_table_iter_init(&it, args);
    while (wire_table_iter_next(&it, &arg, &v)) {
        if (is_of_other_types(arg, bit)) {
            fault_set(fault, 406, false,
                      "invalid arg '%.*s' for queue '%.*s' in vhost '%.*s' of queue type %s",
                      FMT(arg), FMT(name), FMT(vhost), type_module(type));
            return false;
        }
    }
    return true;
}

bool args_check_queue(struct bytes vhost, struct bytes name, struct bytes args, uint32_t flags,
                      uint8_t *ret_type, struct broker_fault *fault)
{
    if (!check_letters(vhost, name, args, fault) ||
        !args_queue_type(vhost, name, args, ret_type, fault)) {
        return false;
    }
    const uint8_t bit = *ret_type == CATALOG_QUORUM ? FOR_QUORUM : FOR_CLASSIC;
    return check_values(vhost, name, args, bit, fault) &&
           check_names(vhost, name, args, *ret_type, bit, fault) &&
           (*ret_type == CATALOG_CLASSIC || check_properties(vhost, name, flags, fault));
}

bool args_check_consume(struct bytes vhost, const struct catalog_queue *queue, struct bytes args,
                        struct consume_args *ret_args, struct broker_fault *fault)
{
    static const struct arg known[] = {
        {"x-priority", ARG_INT, FOR_ALL, INT64_MIN, INT64_MAX, NULL, NULL},
        {"x-consumer-timeout", ARG_INT, FOR_ALL, 0, INT64_MAX, NULL, NULL},
        {"x-cancel-on-ha-failover", ARG_BOOL, FOR_ALL, 0, 0, NULL, NULL},
    };
    char why[300];
    struct wire_value v;
    int64_t number = 0;
    for (size_t i = 0; i < WR_ARRAY_SIZE(known); i++) {
        if (wire_table_find(args, known[i].name, &v) && bad_value(&known[i], &v, why, sizeof why)) {
            fault_set(fault, 406, false, "invalid arg '%s' for queue '%.*s' in vhost '%.*s': %s",
                      known[i].name, FMT(queue->spec.name), FMT(vhost), why);
            return false;
        }
    }
    (void)wire_table_get_integer(args, "x-priority", &number);
    ret_args->priority = number > INT32_MAX   ? INT32_MAX
                         : number < INT32_MIN ? INT32_MIN
                                              : (int32_t)number;
    if (wire_table_get_integer(args, "x-consumer-timeout", &number)) {
        ret_args->timeout_ms = (uint64_t)number;
    } else if (queue->settings.consumer_timeout_ms != UINT64_MAX) {
        ret_args->timeout_ms = queue->settings.consumer_timeout_ms;
    }
    ret_args->cancel_on_move = wire_table_find(args, "x-cancel-on-ha-failover", &v) && v.boolean;
    if (wire_table_find(args, "x-stream-offset", &v)) {
        fault_set(fault, 406, false,
                  "invalid arg 'x-stream-offset' for queue '%.*s' in vhost '%.*s' of queue type %s",
                  FMT(queue->spec.name), FMT(vhost), type_module(queue->spec.type));
        return false;
    }
    return true;
}

/* --- equivalence ------------------------------------------------------------------------------ */

/* RabbitMQ names the type only when the other side has none. */
static void describe_side(struct strbuf *s, bool present, const struct wire_value *v, bool alone)
{
    if (!present || (v->type == WIRE_FIELD_VOID && !alone)) {
        strbuf_add_cstr(s, "none");
        return;
    }
    strbuf_add_cstr(s, alone ? "the value '" : "'");
    if (v->type == WIRE_FIELD_LONGSTR || v->type == WIRE_FIELD_BINARY) {
        strbuf_add(s, v->bytes.data, v->bytes.size);
    } else {
        wire_describe_value(s, v);
    }
    strbuf_add_cstr(s, "'");
    if (alone) {
        strbuf_printf(s, " of type '%s'", wire_field_name(v->type));
    }
}

static bool is_real(const struct wire_value *v)
{
    return v->type == WIRE_FIELD_FLOAT || v->type == WIRE_FIELD_DOUBLE;
}

/* RabbitMQ compares arguments by value, but 1 is not 1.0, as it is in headers exchanges. */
static bool same_value(const struct wire_value *a, const struct wire_value *b)
{
    return is_real(a) == is_real(b) && wire_value_equal(a, b);
}

/* One argument of two tables: equal, or a fault. x-queue-type: absent means classic. */
static bool equivalent_arg(const char *name, const char *kind, struct bytes object,
                           struct bytes vhost, struct bytes received, struct bytes current,
                           struct broker_fault *fault)
{
    struct wire_value a;
    struct wire_value b;
    bool has_a = wire_table_find(received, name, &a);
    bool has_b = wire_table_find(current, name, &b);
    if ((!has_a && !has_b) || (has_a && has_b && same_value(&a, &b))) {
        return true;
    }
    if (strcmp(name, "x-queue-type") == 0 && has_a != has_b) {
        const struct wire_value *given = has_a ? &a : &b;
        if (given->type == WIRE_FIELD_LONGSTR && bytes_eq_cstr(given->bytes, "classic")) {
            return true;
        }
    }
    char text[400];
    struct strbuf s;
    strbuf_init(&s, text, sizeof text);
    strbuf_add_cstr(&s, "received ");
    describe_side(&s, has_a, &a, !has_b);
    strbuf_add_cstr(&s, " but current is ");
    describe_side(&s, has_b, &b, !has_a);
    fault_set(fault, 406, false, "inequivalent arg '%s' for %s '%.*s' in vhost '%.*s': %.*s", name,
              kind, FMT(object), FMT(vhost), FMT(strbuf_bytes(&s)));
    return false;
}

/* What the type of the queue that is there does not know is not compared. */
static bool equivalent_args(const struct catalog_queue_spec *s, struct bytes received,
                            struct broker_fault *fault)
{
    /* Of a quorum queue RabbitMQ compares these first; else the order is that of the table. */
    static const char *const order[] = {
        "x-dead-letter-exchange",
        "x-dead-letter-routing-key",
        "x-dead-letter-strategy",
        "x-expires",
        "x-max-length",
        "x-max-length-bytes",
        "x-max-in-memory-length",
        "x-max-in-memory-bytes",
        "x-overflow",
        "x-single-active-consumer",
        "x-queue-type",
        "x-quorum-initial-group-size",
        "x-delivery-limit",
    };
    const bool quorum = s->type == CATALOG_QUORUM;
    for (size_t i = 0; quorum && i < WR_ARRAY_SIZE(order); i++) {
        if (!equivalent_arg(order[i], "queue", s->name, s->vhost, received, s->arguments, fault)) {
            return false;
        }
    }
    for (size_t i = 0; i < WR_ARRAY_SIZE(args_table); i++) {
        const struct arg *arg = &args_table[i];
        if ((arg->types & (quorum ? FOR_QUORUM : FOR_CLASSIC)) != 0 &&
            !equivalent_arg(arg->name, "queue", s->name, s->vhost, received, s->arguments, fault)) {
            return false;
        }
    }
    return true;
}

static bool equivalent_flag(const char *name, const char *kind, struct bytes object,
                            struct bytes vhost, bool received, bool current,
                            struct broker_fault *fault)
{
    if (received != current) {
        fault_set(fault, 406, false,
                  "inequivalent arg '%s' for %s '%.*s' in vhost '%.*s': received '%s' but current "
                  "is '%s'",
                  name, kind, FMT(object), FMT(vhost), received ? "true" : "false",
                  current ? "true" : "false");
    }
    return received == current;
}

bool equivalent_queue(const struct broker_session *session, const struct catalog_queue *queue,
                      uint32_t flags, struct bytes args, struct broker_fault *fault)
{
    const struct catalog_queue_spec *s = &queue->spec;
    bool exclusive = (flags & BROKER_EXCLUSIVE) != 0;
    bool durable =
        (flags & BROKER_DURABLE) != 0 && !exclusive; /* durable + exclusive counts as non-durable */
    if (!owner_check(session, queue, fault)) {
        return false;
    }
    if (exclusive != s->exclusive) {
        fault_set(
            fault, 405, false,
            "cannot obtain exclusive access to locked queue '%.*s' in vhost '%.*s'. It could be "
            "originally declared on another connection "
            "or the exclusive property value does not match that of the original declaration.",
            FMT(s->name), FMT(s->vhost));
        return false;
    }
    if (!equivalent_flag("durable", "queue", s->name, s->vhost, durable, s->durable, fault) ||
        !equivalent_flag("auto_delete", "queue", s->name, s->vhost,
                         (flags & BROKER_AUTO_DELETE) != 0, s->auto_delete, fault)) {
        return false;
    }
    if (bytes_eq(args, s->arguments)) {
        return true; /* As when it was made just now: each look-up would read the whole table. */
    }
    return equivalent_args(s, args, fault);
}

/* As Erlang writes an atom: RabbitMQ puts it between quotes, and writes what is no plain word with
 * quotes of its own. */
static const char *quote_of(struct bytes type)
{
    return memchr(type.data, '-', type.size) == NULL ? "'" : "''";
}

bool equivalent_exchange(const struct catalog_exchange *x, struct bytes type, uint32_t flags,
                         struct bytes args, struct broker_fault *fault)
{
    if (!bytes_eq(type, x->type)) {
        const char *received = quote_of(type);
        const char *current = quote_of(x->type);
        fault_set(fault, 406, false,
                  "inequivalent arg 'type' for exchange '%.*s' in vhost '%.*s': received "
                  "%s%.*s%s but current is %s%.*s%s",
                  FMT(x->name), FMT(x->vhost), received, FMT(type), received, current, FMT(x->type),
                  current);
        return false;
    }
    return equivalent_flag("durable", "exchange", x->name, x->vhost, (flags & BROKER_DURABLE) != 0,
                           x->durable, fault) &&
           equivalent_flag("auto_delete", "exchange", x->name, x->vhost,
                           (flags & BROKER_AUTO_DELETE) != 0, x->auto_delete, fault) &&
           equivalent_flag("internal", "exchange", x->name, x->vhost,
                           (flags & BROKER_INTERNAL) != 0, x->internal, fault) &&
           equivalent_arg("alternate-exchange", "exchange", x->name, x->vhost, args, x->arguments,
                          fault);
}
