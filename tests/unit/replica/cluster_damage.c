/* Parcels that arrive damaged: bytes, sizes and numbers changed, cut, given to others. */
#include "cluster.h"

static void damage(struct test_cluster *c, uint8_t *data, uint32_t *size)
{
    if (*size > 0 && prng_ratio(&c->prng, 1, 8)) {
        *size = (uint32_t)prng_below(&c->prng, *size);
    }
    uint32_t times = (uint32_t)prng_below(&c->prng, 4);
    for (uint32_t i = 0; i<times && * size> 0; i++) {
        /* The head is where the numbers are. */
        uint32_t end = prng_ratio(&c->prng, 3, 4) && *size > 64 ? 64 : *size;
        uint8_t *at = &data[prng_below(&c->prng, end)];
        static const uint8_t odd[] = {0, 1, 0x7f, 0x80, 0xcc, 0xcf, 0xdd, 0xff};
        *at = prng_ratio(&c->prng, 1, 2) ? (uint8_t)(*at ^ 1u << prng_below(&c->prng, 8))
                                         : odd[prng_below(&c->prng, sizeof odd)];
    }
}

/* Octets of the msgpack token at `at`, arrays without their items; 0 = not one that parcels have.
 */
static uint32_t token_size(const uint8_t *at)
{
    static const uint8_t sizes[] = {[0xc2 - 0xc0] = 1, [0xc3 - 0xc0] = 1, [0xcc - 0xc0] = 2,
                                    [0xcd - 0xc0] = 3, [0xce - 0xc0] = 5, [0xcf - 0xc0] = 9,
                                    [0xd0 - 0xc0] = 2, [0xd1 - 0xc0] = 3, [0xd2 - 0xc0] = 5,
                                    [0xd3 - 0xc0] = 9, [0xdc - 0xc0] = 3, [0xdd - 0xc0] = 5};
    if (at[0] < 0x80 || at[0] >= 0xe0 || (at[0] >= 0x90 && at[0] < 0xa0)) {
        return 1;
    }
    if (at[0] == 0xc4) {
        return 2u + at[1];
    }
    return at[0] >= 0xc0 && at[0] - 0xc0u < sizeof sizes ? sizes[at[0] - 0xc0] : 0;
}

/* One number of the head becomes another one. `data` has room for 8 octets more. */
static void change_number(struct test_cluster *c, uint8_t *data, uint32_t *size)
{
    static const uint64_t odd[] = {
        0, 1, 2, 0x7fffffff, 0x80000000, UINT32_MAX, 1ull << 32, UINT64_MAX / 2, UINT64_MAX};
    uint32_t head = *size < 4 ? 0 : bytes_load_le32(data);
    uint32_t places[64];
    uint32_t count = 0;
    for (uint32_t at = 4; at < 4 + head && at + 9 < *size && count < WR_ARRAY_SIZE(places);) {
        if (data[at] < 0x80 || (data[at] >= 0xcc && data[at] <= 0xcf)) {
            places[count++] = at;
        }
        uint32_t step = token_size(data + at);
        if (step == 0) {
            break;
        }
        at += step;
    }
    if (count == 0) {
        return;
    }
    uint32_t at = places[prng_below(&c->prng, count)];
    uint32_t old = token_size(data + at);
    uint64_t value = odd[prng_below(&c->prng, WR_ARRAY_SIZE(odd))];
    if (old == 1 && prng_ratio(&c->prng, 1, 2)) {
        value = (uint64_t)data[at] + prng_below(&c->prng, 5) - 2;
    }
    memmove(data + at + 9, data + at + old, *size - at - old);
    data[at] = 0xcf;
    bytes_store_be64(data + at + 1, value);
    *size += 9 - old;
    bytes_store_le32(data, head + 9 - old);
}

/* What a peer that is broken might send: a copy of a parcel with a few octets changed. */
struct parcel *cluster_damaged_copy(struct test_cluster *c, const struct parcel *parcel)
{
    struct parcel *copy = parcel_new();
    *copy = *parcel;
    uint64_t total = 0;
    for (uint32_t i = 0; i < parcel->slice_count; i++) {
        total += parcel->slices[i].size;
    }
    uint8_t *data = wr_alloc(total + 16);
    uint32_t size = 0;
    for (uint32_t i = 0; i < parcel->slice_count; i++) {
        memcpy(data + size, slice_data(&parcel->slices[i]), parcel->slices[i].size);
        size += parcel->slices[i].size;
    }
    if (prng_ratio(&c->prng, 1, 2)) {
        change_number(c, data, &size);
    } else {
        damage(c, data, &size);
    }
    struct buf *buf = buf_from(data, size); /* as long as it is: the sanitizer sees its end */
    wr_free(data);
    copy->slices = wr_calloc(1, sizeof *copy->slices);
    copy->slices[0] = slice_of_buf(buf);
    copy->slice_count = 1;
    switch (prng_below(&c->prng, 16)) {
    case 0:
        copy->kind = (uint8_t)prng_below(&c->prng, 32);
        break;
    case 1:
        copy->group += prng_below(&c->prng, 3) - 1;
        break;
    case 2:
        copy->from_shard = (uint32_t)prng_u64(&c->prng);
        break;
    case 3:
        copy->from_node = c->nodes[prng_below(&c->prng, c->node_count)].id;
        break;
    default:
        break;
    }
    return copy;
}
