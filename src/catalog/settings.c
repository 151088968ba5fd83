/*
 * What: what is in force for one queue: arguments against policies, by the rules of RabbitMQ.
 * Happy path: catalog__settle is called for every queue object before it is put into a view.
 * Failure modes: none; a value of a wrong type or range counts as not given (who declares is told,
 * who sets a policy too; what got in otherwise must not stop the machine). Threads: the machine's;
 * the result is read by all. Spec: docs/policies.md, "What is in force".
 */
#include "internal.h"
#include "policy_keys.h"

#include "warren/queue.h"

/* Where the values of one queue come from. */
struct sources {
    const struct catalog_queue *queue;
    bool policies; /* false: the arguments alone */
};

/* Who wins when both an argument and a policy say something. */
enum winner { ARGUMENT, POLICY };

static bool argument_of(const struct sources *from, const char *name, struct wire_value *ret)
{
    return from->queue->spec.arguments.size > 0 &&
           wire_table_find(from->queue->spec.arguments, name, ret);
}

static bool policy_of(const struct sources *from, const char *key, struct wire_value *ret)
{
    const struct catalog_queue *q = from->queue;
    return from->policies && (q->policy != NULL || q->operator_policy != NULL) &&
           policy_get(q->policy, q->operator_policy, key, ret);
}

static uint64_t natural(bool present, const struct wire_value *value)
{
    return present && wire_value_is_integer(value) && value->integer >= 0 ? (uint64_t)value->integer
                                                                          : UINT64_MAX;
}

/* The lower of both; UINT64_MAX: none. `key` is the argument's name without "x-". */
static uint64_t lower(const struct sources *from, const char *argument, const char *key)
{
    struct wire_value value;
    const uint64_t a = natural(argument_of(from, argument, &value), &value);
    const uint64_t p = natural(policy_of(from, key, &value), &value);
    return a < p ? a : p;
}

static bool pick(const struct sources *from, const char *argument, const char *key,
                 enum winner winner, uint8_t type, struct wire_value *ret)
{
    struct wire_value a;
    struct wire_value p;
    const bool has_a = argument_of(from, argument, &a) && a.type == type;
    const bool has_p = policy_of(from, key, &p) && p.type == type;
    if (!has_a && !has_p) {
        return false;
    }
    *ret = has_a && (winner == ARGUMENT || !has_p) ? a : p;
    return true;
}

static bool pick_text(const struct sources *from, const char *argument, const char *key,
                      enum winner winner, struct bytes *ret)
{
    struct wire_value value;
    if (!pick(from, argument, key, winner, WIRE_FIELD_LONGSTR, &value)) {
        return false;
    }
    *ret = value.bytes;
    return true;
}

static int64_t delivery_limit(const struct sources *from)
{
    struct wire_value a;
    struct wire_value p;
    const bool has_a = argument_of(from, "x-delivery-limit", &a) && wire_value_is_integer(&a);
    const bool has_p = policy_of(from, "delivery-limit", &p) && wire_value_is_integer(&p);
    if (!has_a && !has_p) {
        return QUEUE_DELIVERY_LIMIT_DEFAULT;
    }
    /* Negative is no limit: as unsigned it is above all others. */
    const uint64_t limit_a = has_a ? (uint64_t)a.integer : UINT64_MAX;
    const uint64_t limit_p = has_p ? (uint64_t)p.integer : UINT64_MAX;
    const int64_t limit = (int64_t)(limit_a < limit_p ? limit_a : limit_p);
    return limit < 0 ? -1 : limit;
}

static uint8_t overflow(const struct sources *from, bool quorum)
{
    struct bytes text;
    if (!pick_text(from, "x-overflow", "overflow", quorum ? POLICY : ARGUMENT, &text)) {
        return SETTINGS_DROP_HEAD;
    }
    if (bytes_eq_cstr(text, "reject-publish")) {
        return SETTINGS_REJECT_PUBLISH;
    }
    /* Quorum queues do not have it: as if nothing was said. */
    return bytes_eq_cstr(text, "reject-publish-dlx") && !quorum ? SETTINGS_REJECT_PUBLISH_DLX
                                                                : SETTINGS_DROP_HEAD;
}

static void settle_dead_letters(const struct sources *from, bool quorum, struct queue_settings *s)
{
    struct bytes strategy;
    s->has_dead_letter_exchange = pick_text(from, "x-dead-letter-exchange", "dead-letter-exchange",
                                            ARGUMENT, &s->dead_letter_exchange);
    s->has_dead_letter_key = s->has_dead_letter_exchange &&
                             pick_text(from, "x-dead-letter-routing-key", "dead-letter-routing-key",
                                       ARGUMENT, &s->dead_letter_key);
    if (quorum &&
        pick_text(from, "x-dead-letter-strategy", "dead-letter-strategy", ARGUMENT, &strategy)) {
        s->dead_letter_strategy = bytes_eq_cstr(strategy, "at-least-once")  ? SETTINGS_AT_LEAST_ONCE
                                  : bytes_eq_cstr(strategy, "at-most-once") ? SETTINGS_AT_MOST_ONCE
                                                                            : 0;
    }
}

/* Mirroring of classic queues; exclusive ones never are. */
static void settle_mirrors(const struct sources *from, struct queue_settings *s)
{
    struct wire_value mode;
    struct wire_value params = {0};
    if (from->queue->spec.exclusive || !policy_of(from, "ha-mode", &mode) ||
        mode.type != WIRE_FIELD_LONGSTR) {
        return;
    }
    const bool has_params = policy_of(from, "ha-params", &params);
    if (bytes_eq_cstr(mode.bytes, "all")) {
        s->ha_mode = SETTINGS_HA_ALL;
    } else if (bytes_eq_cstr(mode.bytes, "exactly") && has_params &&
               wire_value_is_integer(&params) && params.integer > 0) {
        s->ha_mode = SETTINGS_HA_EXACTLY;
        s->ha_count = params.integer > UINT32_MAX ? UINT32_MAX : (uint32_t)params.integer;
    } else if (bytes_eq_cstr(mode.bytes, "nodes") && has_params &&
               params.type == WIRE_FIELD_ARRAY) {
        s->ha_mode = SETTINGS_HA_NODES;
        s->ha_nodes = params.bytes;
    }
}

static uint32_t target_group_size(const struct sources *from)
{
    struct wire_value value;
    uint64_t a = natural(argument_of(from, "x-quorum-target-group-size", &value), &value);
    uint64_t p = natural(policy_of(from, "target-group-size", &value), &value);
    a = a == UINT64_MAX ? 0 : a;
    p = p == UINT64_MAX ? 0 : p;
    const uint64_t size = a > p ? a : p;
    return size > UINT32_MAX ? UINT32_MAX : (uint32_t)size;
}

static void settings_none(struct queue_settings *s, bool quorum)
{
    *s = (struct queue_settings){
        .ttl_ms = UINT64_MAX,
        .expires_ms = UINT64_MAX,
        .length_max = UINT64_MAX,
        .bytes_max = UINT64_MAX,
        .delivery_limit = quorum ? QUEUE_DELIVERY_LIMIT_DEFAULT : -1,
        .consumer_timeout_ms = UINT64_MAX,
    };
}

static void settle(const struct sources *from, struct queue_settings *s)
{
    const struct bytes arguments = from->queue->spec.arguments;
    const bool quorum = from->queue->spec.type == CATALOG_QUORUM;
    struct bytes mode;
    struct wire_value value;
    settings_none(s, quorum);
    if (from->queue->spec.type == CATALOG_HISTORY) { /* the arguments are the exchange's */
        s->length_max = natural(argument_of(from, CATALOG_HISTORY_LENGTH, &value), &value);
        s->length_max = s->length_max == UINT64_MAX ? CATALOG_HISTORY_DEFAULT : s->length_max;
        return;
    }
    s->ttl_ms = lower(from, "x-message-ttl", "message-ttl");
    s->expires_ms = lower(from, "x-expires", "expires");
    s->length_max = lower(from, "x-max-length", "max-length");
    s->bytes_max = lower(from, "x-max-length-bytes", "max-length-bytes");
    s->consumer_timeout_ms = lower(from, "x-consumer-timeout", "consumer-timeout");
    s->overflow = overflow(from, quorum);
    settle_dead_letters(from, quorum, s);
    const uint64_t priority = natural(argument_of(from, "x-max-priority", &value), &value);
    s->priority_max = priority == UINT64_MAX ? 0 : (priority > 255 ? 255 : (uint8_t)priority);
    (void)wire_table_get_bool(arguments, "x-single-active-consumer", &s->single_active_consumer);
    const uint64_t own_window = natural(argument_of(from, "x-dedup-window", &value), &value);
    const uint64_t window = own_window != UINT64_MAX
                                ? own_window
                                : natural(policy_of(from, "dedup-window", &value), &value);
    s->dedup_window_ms = window == UINT64_MAX ? 0 : window;
    s->delays =
        pick(from, "x-delayed-messages", "delayed-messages", ARGUMENT, WIRE_FIELD_BOOL, &value) &&
        value.boolean;
    if (quorum) {
        s->delivery_limit = delivery_limit(from);
        s->target_group_size = target_group_size(from);
        return;
    }
    s->lazy = pick_text(from, "x-queue-mode", "queue-mode", ARGUMENT, &mode) &&
              bytes_eq_cstr(mode, "lazy");
    settle_mirrors(from, s);
}

void catalog__settle(struct catalog_queue *queue)
{
    if (queue->spec.arguments.size == 0 && queue->policy == NULL &&
        queue->operator_policy == NULL && queue->spec.type != CATALOG_HISTORY) {
        settings_none(&queue->settings, queue->spec.type == CATALOG_QUORUM); /* most queues */
        return;
    }
    settle(&(struct sources){queue, true}, &queue->settings);
}

static void fill_config(const struct catalog_queue *queue, const struct queue_settings *s,
                        struct queue_config *ret)
{
    queue_config_default(ret);
    ret->auto_delete = queue->spec.auto_delete;
    ret->single_active_consumer = s->single_active_consumer;
    ret->active_stays = s->single_active_consumer && queue->spec.type != CATALOG_QUORUM;
    ret->priority_max = s->priority_max;
    ret->ttl_ms = s->ttl_ms;
    ret->length_max = s->length_max;
    ret->bytes_max = s->bytes_max;
    ret->expires_ms = s->expires_ms;
    ret->delivery_limit = s->delivery_limit == INT64_MAX ? INT64_MAX - 1 : s->delivery_limit;
    ret->dead_letter = s->has_dead_letter_exchange;
    ret->overflow = s->overflow;
    ret->dedup_window_ms = s->dedup_window_ms;
}

void queue_settings_config(const struct catalog_queue *queue, struct queue_config *ret)
{
    fill_config(queue, &queue->settings, ret);
}

void queue_declared_config(const struct catalog_queue *queue, struct queue_config *ret)
{
    struct queue_settings s;
    settle(&(struct sources){queue, false}, &s);
    fill_config(queue, &s, ret);
}

bool queue_settings_names_node(const struct queue_settings *settings, struct bytes node_name)
{
    struct wire_table_iter it;
    struct bytes key;
    struct wire_value value;
    wire_array_iter_init(&it, settings->ha_nodes);
    while (wire_table_iter_next(&it, &key, &value)) {
        if (value.type == WIRE_FIELD_LONGSTR && bytes_eq(value.bytes, node_name)) {
            return true;
        }
    }
    return false;
}

bool queue_settings_equal(const struct queue_settings *a, const struct queue_settings *b)
{
    return a->ttl_ms == b->ttl_ms && a->expires_ms == b->expires_ms &&
           a->length_max == b->length_max && a->bytes_max == b->bytes_max &&
           a->delivery_limit == b->delivery_limit && a->overflow == b->overflow &&
           a->dead_letter_strategy == b->dead_letter_strategy &&
           a->has_dead_letter_exchange == b->has_dead_letter_exchange &&
           a->has_dead_letter_key == b->has_dead_letter_key &&
           bytes_eq(a->dead_letter_exchange, b->dead_letter_exchange) &&
           bytes_eq(a->dead_letter_key, b->dead_letter_key) && a->priority_max == b->priority_max &&
           a->single_active_consumer == b->single_active_consumer && a->lazy == b->lazy &&
           a->consumer_timeout_ms == b->consumer_timeout_ms &&
           a->dedup_window_ms == b->dedup_window_ms && a->delays == b->delays &&
           a->ha_mode == b->ha_mode && a->ha_count == b->ha_count &&
           bytes_eq(a->ha_nodes, b->ha_nodes) && a->target_group_size == b->target_group_size;
}

bool catalog__alternate(struct bytes arguments, const struct catalog_policy *policy,
                        struct bytes *ret_name)
{
    struct wire_value value;
    *ret_name = BYTES_NONE;
    if (arguments.size > 0 && wire_table_find(arguments, "alternate-exchange", &value)) {
        /* The argument wins, even one that can name no exchange. */
        *ret_name = value.type == WIRE_FIELD_LONGSTR ? value.bytes : BYTES_NONE;
        return value.type == WIRE_FIELD_LONGSTR;
    }
    return policy != NULL &&
           wire_table_get_string(policy->spec.definition, "alternate-exchange", ret_name);
}
