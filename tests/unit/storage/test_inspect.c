/* What: a segment as text. */
#include "harness.h"

#include <criterion/criterion.h>
#include <stdio.h>

#include "warren/err.h"

struct text {
    char lines[16][256];
    uint32_t count;
};

static void collect(void *ctx, const char *line)
{
    struct text *text = ctx;
    cr_assert_lt(text->count, 16);
    (void)snprintf(text->lines[text->count++], 256, "%s", line);
}

Test(inspect, rounds_records_end_and_damage)
{
    struct harness h;
    struct text text = {0};
    harness_init(&h, 1, 1, 16384);
    cr_assert_eq(harness_open(&h), 0);
    harness_submit(&h, 0, 2, 10);
    harness_run(&h);
    harness_submit(&h, 0, 1, 700);
    harness_quiet(&h); /* and a mark */
    struct buf *file = sim_disk_get(h.disk, HARNESS_DIR "/log/segment-0000000000000001.log");
    const struct bytes bytes = bytes_make(file->data, file->size);
    cr_assert_eq(log_inspect(bytes, collect, &text), 0);
    cr_assert_eq(text.count, 8);
    cr_assert_str_eq(text.lines[0],
                     "segment 1 of node 00000000000000010000000000000002, 16384 bytes");
    cr_assert_str_eq(text.lines[1], "4096: round 1.0 size 148 records 2 durable below 4096");
    cr_assert(strstr(text.lines[2], "index 1 ") != NULL, "%s", text.lines[2]);
    cr_assert_str_eq(text.lines[4], "4608: round 1.1 size 788 records 1 durable below 4608");
    cr_assert_str_eq(text.lines[6], "5632: round 1.2 size 48 records 0 durable below 5632");
    cr_assert_str_eq(text.lines[7], "6144: no valid round");

    text.count = 0;
    file->data[4608 + 400] ^= 1;
    cr_assert_eq(log_inspect(bytes, collect, &text), WR_E_CORRUPT);
    cr_assert(strstr(text.lines[5], "DOES NOT VERIFY") != NULL, "%s", text.lines[5]);
    cr_assert_str_eq(text.lines[7], "DAMAGE: the round at 5632 shows that it was durable");

    file->data[0] ^= 1;
    cr_assert_eq(log_inspect(bytes, collect, &text), WR_E_CORRUPT);
    cr_assert_eq(log_inspect(bytes_make(file->data, 100), collect, &text), WR_E_CORRUPT);
    buf_unref(file);
    harness_deinit(&h);
}
