/* What: the checkpoint store's keys and values. */
#include "warren/log.h"

#include <criterion/criterion.h>

#include "warren/err.h"
#include "warren/prng.h"

Test(checkpoint, keys_are_in_numeric_order)
{
    const uint64_t numbers[] = {0, 1, 255, 256, 65536, UINT64_C(1) << 40, UINT64_MAX};
    for (size_t i = 0; i + 1 < WR_ARRAY_SIZE(numbers); i++) {
        struct slice keys[5] = {
            checkpoint_message_key(numbers[i], 5),
            checkpoint_message_key(numbers[i], UINT64_MAX),
            checkpoint_message_key(numbers[i + 1], 0),
            checkpoint_snapshot_key(numbers[i]),
            checkpoint_snapshot_key(numbers[i + 1]),
        };
        for (size_t k = 0; k < 5; k++) {
            cr_assert(k == 0 ||
                      bytes_cmp(bytes_from_slice(&keys[k - 1]), bytes_from_slice(&keys[k])) < 0);
        }
        for (size_t k = 0; k < 5; k++) {
            slice_unref(&keys[k]);
        }
    }
    struct slice name = checkpoint_setting_key("node_id");
    cr_assert(bytes_eq_cstr(bytes_from_slice(&name), "nnode_id"));
    slice_unref(&name);
}

Test(checkpoint, message_position)
{
    uint64_t group, position;
    struct slice key = checkpoint_message_key(77, UINT64_C(1) << 50);
    cr_assert_eq(checkpoint_message_position(bytes_from_slice(&key), &group, &position), 0);
    cr_assert_eq(group, 77);
    cr_assert_eq(position, UINT64_C(1) << 50);
    for (uint32_t size = 0; size < key.size; size++) {
        cr_assert_eq(
            checkpoint_message_position(bytes_make(slice_data(&key), size), &group, &position),
            WR_E_INVALID);
    }
    slice_unref(&key);
    key = checkpoint_snapshot_key(77);
    cr_assert_eq(checkpoint_message_position(bytes_from_slice(&key), &group, &position),
                 WR_E_INVALID);
    slice_unref(&key);
}

Test(checkpoint, round_trip_and_every_damage)
{
    const struct checkpoint in = {.group = 1,
                                  .index = 2,
                                  .term = 3,
                                  .membership = BYTES_LITERAL("members"),
                                  .machine = BYTES_LITERAL("a machine")};
    struct checkpoint out;
    struct slice value = checkpoint_encode(&in);
    cr_assert_eq(checkpoint_decode(bytes_from_slice(&value), &out), 0);
    cr_assert_eq(out.group, 1);
    cr_assert_eq(out.index, 2);
    cr_assert_eq(out.term, 3);
    cr_assert(bytes_eq(out.membership, in.membership));
    cr_assert(bytes_eq(out.machine, in.machine));
    for (uint32_t size = 0; size < value.size; size++) {
        uint8_t *copy = wr_memdup(slice_data(&value), size);
        cr_assert_neq(checkpoint_decode(bytes_make(copy, size), &out), 0);
        wr_free(copy);
    }
    for (uint32_t bit = 0; bit < value.size * 8; bit++) {
        uint8_t *copy = wr_memdup(slice_data(&value), value.size);
        copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
        cr_assert_eq(checkpoint_decode(bytes_make(copy, value.size), &out), WR_E_CORRUPT);
        wr_free(copy);
    }
    slice_unref(&value);
    const struct checkpoint empty = {.group = 9};
    value = checkpoint_encode(&empty);
    cr_assert_eq(checkpoint_decode(bytes_from_slice(&value), &out), 0);
    cr_assert_eq(out.machine.size, 0);
    slice_unref(&value);
}
