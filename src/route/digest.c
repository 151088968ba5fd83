/*
 * What: hashes of what a message says, for the exchanges that partition by them. The same on every
 * node and in every version: what is in which partition must not change by an upgrade.
 * Threads: pure functions. Spec: docs/routing.md, "Shares".
 */
#include "internal.h"

#include "warren/map.h"
#include "warren/wire_props.h"

static const struct hash_seed digest_seed = {UINT64_C(0x7061727469746960),
                                             UINT64_C(0x6e20627920686173)};

uint64_t route__digest_bytes(struct bytes text)
{
    return hash_bytes(digest_seed, text);
}

uint64_t route__digest_number(uint64_t number)
{
    uint8_t data[9] = {'#'};
    bytes_store_be64(data + 1, number);
    return hash_bytes(digest_seed, bytes_make(data, sizeof(data)));
}

uint64_t route__digest_keys(const struct route_result *result)
{
    const struct route_input *input = result->scratch->input;
    uint64_t digest = route__digest_bytes(input->key);
    for (uint32_t i = 0; i < input->extra_count; i++) {
        digest =
            hash_u64((struct hash_seed){digest, i + 1}, route__digest_bytes(input->extra_keys[i]));
    }
    return digest;
}

uint64_t route__digest_value(const struct wire_value *value)
{
    if (wire_value_is_integer(value)) {
        return route__digest_number((uint64_t)value->integer);
    }
    switch (value->type) {
    case WIRE_FIELD_LONGSTR:
    case WIRE_FIELD_BINARY:
        return route__digest_bytes(value->bytes);
    case WIRE_FIELD_TIMESTAMP:
        return route__digest_number(value->timestamp);
    default: /* Whatever else it is: its encoding. */
        return hash_u64(digest_seed, route__digest_bytes(value->raw) ^ value->type);
    }
}

uint64_t route__random_for(struct route_result *result, const struct catalog_exchange *exchange)
{
    const struct route_input *input = route__input(result);
    return hash_u64((struct hash_seed){input->random, digest_seed.k1}, exchange->id);
}

uint32_t route__below(uint64_t number, uint32_t count)
{
    __extension__ typedef unsigned __int128 wide;
    return (uint32_t)(((wide)number * count) >> 64);
}
