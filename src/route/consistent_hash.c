/*
 * What: x-consistent-hash: one of the destinations, in proportion to weights, by a hash of the
 * routing key (not of CC's, as in RabbitMQ), of a header or of a property.
 * Failure modes: a binding whose key is no weight (never accepted by the broker) gets nothing.
 * Threads: indexes are immutable; any may read. Spec: AMQP reference §7, "Plugin types".
 */
#include "shares.h"
#include "warren/wire_props.h"

enum weight_fault { WEIGHT_OK, WEIGHT_NO_INTEGER, WEIGHT_TOO_SMALL, WEIGHT_TOO_LARGE };

/* A sign and decimal digits, as Erlang's list_to_integer takes them. */
static enum weight_fault parse_weight(struct bytes key, uint64_t *ret_weight)
{
    const bool negative = key.size > 0 && key.data[0] == '-';
    const size_t begin = key.size > 0 && (negative || key.data[0] == '+') ? 1 : 0;
    uint64_t weight = 0;
    for (size_t i = begin; i < key.size; i++) {
        if (key.data[i] < '0' || key.data[i] > '9') {
            return WEIGHT_NO_INTEGER;
        }
        weight = weight * 10 + (uint64_t)(key.data[i] - '0');
        if (weight > UINT32_MAX) {
            weight = (uint64_t)UINT32_MAX + 1; /* Too large, however it goes on. */
        }
    }
    if (key.size == begin) {
        return WEIGHT_NO_INTEGER;
    }
    if (negative || weight == 0) {
        return WEIGHT_TOO_SMALL;
    }
    if (weight > UINT32_MAX) {
        return WEIGHT_TOO_LARGE;
    }
    *ret_weight = weight;
    return WEIGHT_OK;
}

static int hash_validate_binding(const struct route_binding *binding, struct strbuf *text)
{
    uint64_t weight;
    switch (parse_weight(binding->key, &weight)) {
    case WEIGHT_OK:
        return 0;
    case WEIGHT_NO_INTEGER:
        strbuf_add_cstr(text, "The binding key must be an integer: ");
        route__describe_binary(text, binding->key);
        break;
    case WEIGHT_TOO_SMALL:
        strbuf_add_cstr(text, "The binding key must be greater than 0");
        break;
    case WEIGHT_TOO_LARGE:
        strbuf_printf(text, "The binding key must not be greater than %lu",
                      (unsigned long)UINT32_MAX);
        break;
    }
    return WR_E_INVALID;
}

static const struct {
    const char *name;
    enum wire_prop prop;
} properties[] = {
    {"correlation_id", WIRE_PROP_CORRELATION_ID},
    {"message_id", WIRE_PROP_MESSAGE_ID},
    {"timestamp", WIRE_PROP_TIMESTAMP},
};

#define PROPERTY_COUNT (sizeof(properties) / sizeof(properties[0]))

static bool find_property(struct bytes name, enum wire_prop *ret_prop)
{
    for (size_t i = 0; i < PROPERTY_COUNT; i++) {
        if (bytes_eq_cstr(name, properties[i].name)) {
            *ret_prop = properties[i].prop;
            return true;
        }
    }
    return false;
}

static int hash_validate(struct bytes arguments, struct strbuf *text)
{
    static const char *const names[] = {"hash-header", "hash-property"};
    struct wire_value value[2];
    bool set[2];
    for (int i = 0; i < 2; i++) {
        set[i] = wire_table_find(arguments, names[i], &value[i]);
        if (set[i] && value[i].type != WIRE_FIELD_LONGSTR) {
            strbuf_printf(text, "Invalid argument, '%s' must be of type longstr", names[i]);
            return WR_E_INVALID;
        }
    }
    if (set[0] && set[1]) {
        strbuf_add_cstr(text, "hash-header and hash-property are mutually exclusive");
        return WR_E_INVALID;
    }
    enum wire_prop prop;
    if (set[1] && !find_property(value[1].bytes, &prop)) {
        strbuf_add_cstr(text, "Unsupported property: ");
        strbuf_add(text, value[1].bytes.data, value[1].bytes.size);
        return WR_E_INVALID;
    }
    return 0;
}

/* A message that has not got it: as if it were empty. */
static uint64_t digest_property(struct bytes props, enum wire_prop prop)
{
    uint64_t number = 0;
    if (prop == WIRE_PROP_TIMESTAMP) {
        return wire_props_get_number(props, prop, &number) ? route__digest_number(number)
                                                           : route__digest_bytes(BYTES_NONE);
    }
    struct bytes text = BYTES_NONE;
    (void)wire_props_get(props, prop, &text);
    return route__digest_bytes(text);
}

static uint64_t digest_message(struct bytes arguments, struct bytes key,
                               struct route_result *result)
{
    struct bytes name;
    if (arguments.size == 0) {
        return route__digest_bytes(key);
    }
    if (wire_table_get_string(arguments, "hash-header", &name)) {
        struct wire_value value;
        const struct bytes headers = wire_props_headers(route__input(result)->props);
        return wire_table_find_bytes(headers, name, &value) ? route__digest_value(&value)
                                                            : route__digest_bytes(BYTES_NONE);
    }
    enum wire_prop prop;
    if (wire_table_get_string(arguments, "hash-property", &name) && find_property(name, &prop)) {
        return digest_property(route__input(result)->props, prop);
    }
    return route__digest_bytes(key);
}

static struct pref *hash_add(struct pref *index, struct catalog_binding *binding)
{
    uint64_t weight = 0;
    (void)parse_weight(binding->key, &weight);
    return shares_add(index, binding, weight);
}

static struct pref *hash_remove(struct pref *index, struct catalog_binding *binding)
{
    return shares_remove(index, binding);
}

static void hash_route(const struct catalog_exchange *exchange, struct bytes key,
                       struct route_result *result)
{
    if (shares_weight(exchange->index) > 0) {
        const uint64_t digest = digest_message(exchange->arguments, key, result);
        route__emit(result, shares_choose(exchange->index, digest));
    }
}

const struct exchange_type route__consistent_hash = {
    .name = "x-consistent-hash",
    .by_key = false,
    .validate = hash_validate,
    .validate_binding = hash_validate_binding,
    .add = hash_add,
    .remove = hash_remove,
    .route = hash_route,
};
