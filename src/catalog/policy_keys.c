/*
 * What: the table of policy keys and how values of a policy and an operator policy merge.
 * Threads: pure functions. Spec: docs/policies.md.
 */
#include "policy_keys.h"

#include "internal.h"

#define C   (1u << CATALOG_CLASSIC)
#define Q   (1u << CATALOG_QUORUM)
#define S   (1u << CATALOG_STREAM)
#define ALL (C | Q | S)

static const struct policy_key keys[] = {
    {"message-ttl", C | Q, true, MERGE_MIN, CHECK_INTEGER, 0, INT64_MAX, NULL, "message TTL"},
    {"expires", C | Q, true, MERGE_MIN, CHECK_INTEGER, 1, INT64_MAX, NULL, "queue expiry"},
    {"max-length", C | Q, true, MERGE_MIN, CHECK_INTEGER, 0, INT64_MAX, NULL, "maximum length"},
    {"max-length-bytes", ALL, true, MERGE_MIN, CHECK_INTEGER, 0, INT64_MAX, NULL,
     "maximum length in bytes"},
    {"max-in-memory-length", C | Q, true, MERGE_MIN, CHECK_INTEGER, 0, INT64_MAX, NULL,
     "maximum memory in bytes"},
    {"max-in-memory-bytes", C | Q, true, MERGE_MIN, CHECK_INTEGER, 0, INT64_MAX, NULL,
     "maximum memory in bytes"},
    {"overflow", C | Q, true, MERGE_OPERATOR, CHECK_ENUM, 0, 0,
     "drop-head reject-publish reject-publish-dlx", "overflow value"},
    {"delivery-limit", Q, true, MERGE_LIMIT, CHECK_INTEGER, INT64_MIN, INT64_MAX, NULL,
     "delivery limit"},
    {"dead-letter-exchange", C | Q, false, MERGE_OPERATOR, CHECK_TEXT, 0, 0, NULL,
     "dead letter exchange name"},
    {"dead-letter-routing-key", C | Q, false, MERGE_OPERATOR, CHECK_TEXT, 0, 0, NULL,
     "dead letter routing key"},
    {"dead-letter-strategy", Q, false, MERGE_OPERATOR, CHECK_ENUM, 0, 0,
     "at-most-once at-least-once", "dead letter strategy"},
    {"alternate-exchange", ALL, false, MERGE_OPERATOR, CHECK_TEXT, 0, 0, NULL,
     "alternate exchange name"},
    {"queue-mode", C, false, MERGE_OPERATOR, CHECK_ENUM, 0, 0, "default lazy", "queue-mode value"},
    {"queue-version", C | Q, true, MERGE_OPERATOR, CHECK_INTEGER, 1, 2, NULL,
     "queue-version value"},
    {"queue-leader-locator", ALL, false, MERGE_OPERATOR, CHECK_ENUM, 0, 0,
     "client-local balanced random least-leaders", "queue leader locator value"},
    {"queue-master-locator", C, false, MERGE_OPERATOR, CHECK_ENUM, 0, 0,
     "min-masters client-local random", "=invalid queue-master-locator value"},
    {"target-group-size", Q, true, MERGE_MAX, CHECK_INTEGER, 1, INT64_MAX, NULL,
     "qq target count value"},
    {"consumer-timeout", C | Q, true, MERGE_MIN, CHECK_INTEGER, 0, INT64_MAX, NULL,
     "consumer timeout"},
    {"max-age", S, false, MERGE_OPERATOR, CHECK_AGE, 0, 0, NULL, "max age"},
    {"stream-max-segment-size-bytes", S, false, MERGE_OPERATOR, CHECK_INTEGER, 0,
     INT64_C(3000000000), NULL, "segment size"},
    {"stream-filter-size-bytes", S, false, MERGE_OPERATOR, CHECK_INTEGER, 16, 255, NULL,
     "filter size"},
    {"initial-cluster-size", S, false, MERGE_OPERATOR, CHECK_INTEGER, 0, INT64_MAX, NULL,
     "cluster size"},
    {"federation-upstream", ALL, false, MERGE_OPERATOR, CHECK_TEXT, 0, 0, NULL,
     "federation upstream"},
    {"federation-upstream-set", ALL, false, MERGE_OPERATOR, CHECK_TEXT, 0, 0, NULL,
     "federation upstream set"},
    {"federation-upstream-pattern", ALL, false, MERGE_OPERATOR, CHECK_TEXT, 0, 0, NULL,
     "federation upstream pattern"},
    {"dedup-window", C | Q, false, MERGE_OPERATOR, CHECK_INTEGER, 0, INT64_MAX, NULL,
     "deduplication window"},
    {"delayed-messages", C | Q, false, MERGE_OPERATOR, CHECK_BOOL, 0, 0, NULL,
     "delayed-messages value"},
    {"ha-mode", C, true, MERGE_HA_MODE, CHECK_HA, 0, 0, NULL, NULL},
    {"ha-params", C, true, MERGE_HA_PARAMS, CHECK_HA, 0, 0, NULL, NULL},
    {"ha-sync-mode", C, true, MERGE_OPERATOR, CHECK_HA, 0, 0, NULL, NULL},
    {"ha-sync-batch-size", C, false, MERGE_OPERATOR, CHECK_HA, 0, 0, NULL, NULL},
    {"ha-promote-on-shutdown", C, false, MERGE_OPERATOR, CHECK_HA, 0, 0, NULL, NULL},
    {"ha-promote-on-failure", C, false, MERGE_OPERATOR, CHECK_HA, 0, 0, NULL, NULL},
};

const struct policy_key *policy_key_find(struct bytes name)
{
    for (size_t i = 0; i < WR_ARRAY_SIZE(keys); i++) {
        if (bytes_eq_cstr(name, keys[i].name)) {
            return &keys[i];
        }
    }
    return NULL;
}

uint8_t catalog__policy_applicable(struct bytes definition)
{
    uint8_t types = 1 | ALL; /* Exchanges take any. */
    struct wire_table_iter it;
    struct bytes name;
    struct wire_value value;
    wire_table_iter_init(&it, definition);
    while (wire_table_iter_next(&it, &name, &value)) {
        const struct policy_key *key = policy_key_find(name);
        types &= key == NULL ? UINT8_MAX : (uint8_t)(1 | key->types);
    }
    return types;
}

static int ha_rank(const struct wire_value *mode)
{
    if (mode->type != WIRE_FIELD_LONGSTR) {
        return 0;
    }
    return bytes_eq_cstr(mode->bytes, "all")       ? 3
           : bytes_eq_cstr(mode->bytes, "exactly") ? 2
           : bytes_eq_cstr(mode->bytes, "nodes")   ? 1
                                                   : 0;
}

static size_t array_count(const struct wire_value *array)
{
    struct wire_table_iter it;
    struct bytes key;
    struct wire_value item;
    size_t count = 0;
    wire_array_iter_init(&it, array->bytes);
    while (wire_table_iter_next(&it, &key, &item)) {
        count++;
    }
    return count;
}

/* A number beats a list; of two, the larger. */
static bool params_before(const struct wire_value *a, const struct wire_value *b)
{
    const bool a_number = wire_value_is_integer(a);
    const bool b_number = wire_value_is_integer(b);
    if (a_number != b_number) {
        return a_number;
    }
    if (a_number) {
        return a->integer > b->integer;
    }
    return a->type == WIRE_FIELD_ARRAY && b->type == WIRE_FIELD_ARRAY &&
           array_count(a) > array_count(b);
}

/* Is the policy's value the one that counts? */
static bool policy_wins(uint8_t merge, const struct wire_value *value,
                        const struct wire_value *operator_value)
{
    const bool numbers = wire_value_is_integer(value) && wire_value_is_integer(operator_value);
    switch (merge) {
    case MERGE_MIN:
        return numbers && value->integer < operator_value->integer;
    case MERGE_MAX:
        return numbers && value->integer > operator_value->integer;
    case MERGE_LIMIT:
        /* Negative is no limit: as unsigned it is above all others. */
        return numbers && (uint64_t)value->integer < (uint64_t)operator_value->integer;
    case MERGE_HA_MODE:
        return ha_rank(value) > ha_rank(operator_value);
    case MERGE_HA_PARAMS:
        return params_before(value, operator_value);
    default:
        return false;
    }
}

struct wire_value policy_merge_values(const struct policy_key *key, const struct wire_value *value,
                                      const struct wire_value *operator_value)
{
    const uint8_t merge = key == NULL ? MERGE_OPERATOR : key->merge;
    return policy_wins(merge, value, operator_value) ? *value : *operator_value;
}

bool policy_get(const struct catalog_policy *policy, const struct catalog_policy *operator_policy,
                const char *key, struct wire_value *ret_value)
{
    struct wire_value a;
    struct wire_value b;
    const bool has_a = policy != NULL && wire_table_find(policy->spec.definition, key, &a);
    const bool has_b =
        operator_policy != NULL && wire_table_find(operator_policy->spec.definition, key, &b);
    if (!has_a && !has_b) {
        return false;
    }
    *ret_value = !has_b   ? a
                 : !has_a ? b
                          : policy_merge_values(policy_key_find(bytes_from_cstr(key)), &a, &b);
    return true;
}

static bool key_less(struct bytes a, struct bytes b)
{
    return bytes_cmp(a, b) < 0;
}

/* The least key above `last` in either definition; false: none. */
static bool next_key(struct bytes definition, bool first, struct bytes last, bool *found,
                     struct bytes *ret_key)
{
    struct wire_table_iter it;
    struct bytes key;
    struct wire_value value;
    wire_table_iter_init(&it, definition);
    while (wire_table_iter_next(&it, &key, &value)) {
        if ((first || key_less(last, key)) && (!*found || key_less(key, *ret_key))) {
            *ret_key = key;
            *found = true;
        }
    }
    return *found;
}

void policy_put_effective(struct writer *w, const struct catalog_policy *policy,
                          const struct catalog_policy *operator_policy)
{
    const struct bytes a = policy == NULL ? BYTES_NONE : policy->spec.definition;
    const struct bytes b = operator_policy == NULL ? BYTES_NONE : operator_policy->spec.definition;
    struct bytes last = BYTES_NONE;
    bool first = true;
    for (;;) {
        struct bytes key = BYTES_NONE;
        bool found = false;
        (void)next_key(a, first, last, &found, &key);
        (void)next_key(b, first, last, &found, &key);
        if (!found) {
            return;
        }
        struct wire_value x;
        struct wire_value y;
        const bool has_x = wire_table_find_bytes(a, key, &x);
        const bool has_y = wire_table_find_bytes(b, key, &y);
        const struct wire_value value =
            !has_y ? x : (!has_x ? y : policy_merge_values(policy_key_find(key), &x, &y));
        wire_put_key(w, key);
        wire_value_put(w, &value);
        last = key;
        first = false;
    }
}
