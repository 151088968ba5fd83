/* Letters between brokers: within a shard, to another shard, to another node, and those that get
 * lost. */
#include "cluster.h"

#define LETTERS_MAX 64

struct got {
    uint32_t node, shard; /* where it came to */
    struct uid from;
    uint32_t from_shard;
    uint64_t numbers[HOST_LETTER_NUMBERS];
    char raw[16];
};

static struct got got[LETTERS_MAX];
static uint32_t got_count;

static void on_letter(void *ctx, struct uid node, uint32_t shard, const struct host_letter *letter)
{
    const struct node_shard *s = ctx;
    cr_assert_lt(got_count, LETTERS_MAX);
    struct got *g = &got[got_count++];
    *g = (struct got){.node = s->node, .shard = s->shard, .from = node, .from_shard = shard};
    memcpy(g->numbers, letter->numbers, sizeof g->numbers);
    if (letter->raw.size > 0 && letter->raw.size < sizeof g->raw) {
        memcpy(g->raw, slice_data(&letter->raw), letter->raw.size);
    }
}

static struct test_cluster *setup(uint32_t nodes, uint32_t shards)
{
    struct test_cluster *c = cluster_new(1, nodes, shards);
    got_count = 0;
    for (uint32_t n = 0; n < nodes; n++) {
        for (uint32_t s = 0; s < shards; s++) {
            const struct host_sink sink = {.on_letter = on_letter, .ctx = &c->nodes[n].shards[s]};
            host_set_sink(cluster_host(c, n, s), &sink);
        }
    }
    cluster_settle(c, 500);
    return c;
}

static bool send(struct test_cluster *c, uint32_t from_node, uint32_t from_shard, uint32_t node,
                 uint32_t shard, uint64_t number, const char *raw)
{
    struct host_letter letter = {.numbers = {number, 2, 3, UINT64_MAX, 5, 6}};
    if (raw != NULL) {
        letter.raw = slice_copy((const uint8_t *)raw, strlen(raw));
    }
    return host_send_letter(cluster_host(c, from_node, from_shard), c->nodes[node].id, shard,
                            &letter);
}

Test(letter, they_arrive_where_they_are_sent_in_order)
{
    struct test_cluster *c = setup(2, 2);
    for (uint64_t i = 0; i < 8; i++) {
        got_count = 0;
        uint32_t node = (uint32_t)i & 1;
        uint32_t shard = (uint32_t)(i >> 1) & 1;
        cr_assert(send(c, 0, (uint32_t)(i >> 2), node, shard, i, "hello"));
        cr_assert(send(c, 0, (uint32_t)(i >> 2), node, shard, i + 100, NULL));
        cr_assert_eq(got_count, 0, "never inside the call");
        cluster_settle(c, 50);
        cr_assert_eq(got_count, 2, "%llu: %u", (unsigned long long)i, got_count);
        cr_assert_eq(got[0].node, node);
        cr_assert_eq(got[0].shard, shard);
        cr_assert(uid_eq(got[0].from, c->nodes[0].id));
        cr_assert_eq(got[0].from_shard, (uint32_t)(i >> 2));
        cr_assert_eq(got[0].numbers[0], i);
        cr_assert_eq(got[0].numbers[3], UINT64_MAX);
        cr_assert_eq(got[0].numbers[5], 6);
        cr_assert_str_eq(got[0].raw, "hello");
        cr_assert_eq(got[1].numbers[0], i + 100);
        cr_assert_str_eq(got[1].raw, "");
    }
    cluster_free(c);
}

Test(letter, what_cannot_arrive_is_dropped)
{
    struct test_cluster *c = setup(2, 1);
    const struct host_letter letter = {.numbers = {1}};
    cr_assert_not(send(c, 0, 0, 0, 9, 1, "no such shard"));
    cr_assert_not(host_send_letter(cluster_host(c, 0, 0), (struct uid){9, 9}, 0, &letter));
    cluster_cut(c, 0, 1);
    cluster_settle(c, 3000);
    cr_assert_not(send(c, 0, 0, 1, 0, 1, "cut off"));
    cluster_join(c, 0, 1);
    cluster_settle(c, 3000);
    cr_assert(send(c, 0, 0, 1, 0, 1, "again"));
    cluster_settle(c, 50);
    cr_assert_eq(got_count, 1);
    cluster_free(c);
}

Test(letter, damaged_ones_are_refused)
{
    struct test_cluster *c = setup(2, 1);
    c->damage = 1;
    for (uint32_t i = 0; i < 20; i++) {
        (void)send(c, 0, 0, 1, 0, i, "x");
        cluster_settle(c, 20);
    }
    cr_assert_geq(got_count, 20);
    cluster_free(c);
}
