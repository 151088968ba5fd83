/* Commands that were proposed more than once count once (docs/catalog.md, "Once"). */
#include "catalog_fixture.h"

static struct catalog_proposer by(uint32_t boot, uint64_t number, uint64_t settled)
{
    return (struct catalog_proposer){
        .boot = boot, .shard = 1, .number = number, .settled = settled};
}

static int put_vhost(struct fixture *f, const char *name, struct catalog_proposer proposer)
{
    struct catalog_command c = {.kind = CATALOG_PUT_VHOST, .by = proposer};
    c.u.vhost = (struct catalog_vhost_spec){.name = bytes_from_cstr(name), .create = true};
    return apply(f, &c);
}

static bool has(const struct fixture *f, const char *name)
{
    return catalog_vhost(view_of(f), bytes_from_cstr(name)) != NULL;
}

/* Restored elsewhere, it goes on as the original does. */
static void restart(struct fixture *f)
{
    struct buf *before = buf_new(1024);
    struct buf *after = buf_new(1024);
    catalog_snapshot(f->catalog, &before);
    cr_assert_eq(catalog_restore(f->catalog, f->index, bytes_make(before->data, before->size)), 0);
    catalog_snapshot(f->catalog, &after);
    cr_assert(
        bytes_eq(bytes_make(before->data, before->size), bytes_make(after->data, after->size)));
    catalog_check(f->catalog);
    buf_unref(before);
    buf_unref(after);
}

Test(proposer, a_second_copy_brings_nothing_back)
{
    struct fixture *f = fixture_new(2);
    cr_assert_eq(put_vhost(f, "v", by(1, 7, 5)), CATALOG_OK);
    const uint64_t id = f->result.id;
    cr_assert_eq(do_delete_vhost(f, "v"), CATALOG_OK);
    cr_assert_eq(put_vhost(f, "v", by(1, 7, 5)), CATALOG_OK);
    cr_assert_eq(f->result.id, id);
    cr_assert_eq(f->result.index, f->index);
    cr_assert_not(has(f, "v"));
    restart(f);
    cr_assert_eq(put_vhost(f, "v", by(1, 7, 5)), CATALOG_OK);
    cr_assert_not(has(f, "v"));
    fixture_free(f);
}

Test(proposer, a_failure_is_answered_again)
{
    struct fixture *f = fixture_new(1);
    cr_assert_eq(put_vhost(f, "v", by(1, 1, 1)), CATALOG_OK);
    cr_assert_eq(put_vhost(f, "v", by(1, 2, 1)), CATALOG_EXISTS);
    cr_assert_eq(do_delete_vhost(f, "v"), CATALOG_OK);
    cr_assert_eq(put_vhost(f, "v", by(1, 2, 1)), CATALOG_EXISTS);
    cr_assert_not(has(f, "v"));
    fixture_free(f);
}

Test(proposer, numbers_come_in_any_order_and_proposers_do_not_share_them)
{
    struct fixture *f = fixture_new(2);
    cr_assert_eq(put_vhost(f, "b", by(1, 9, 3)), CATALOG_OK);
    cr_assert_eq(put_vhost(f, "a", by(1, 4, 3)), CATALOG_OK);
    cr_assert_eq(put_vhost(f, "c", by(2, 9, 3)), CATALOG_OK);
    struct catalog_proposer other_shard = by(1, 9, 3);
    other_shard.shard = 0;
    cr_assert_eq(put_vhost(f, "d", other_shard), CATALOG_OK);
    restart(f);
    cr_assert_eq(put_vhost(f, "x", by(1, 9, 3)), CATALOG_OK);
    cr_assert_eq(put_vhost(f, "x", by(1, 4, 3)), CATALOG_OK);
    cr_assert_eq(put_vhost(f, "x", other_shard), CATALOG_OK);
    cr_assert(has(f, "a") && has(f, "b") && has(f, "c") && has(f, "d") && !has(f, "x"));
    fixture_free(f);
}

Test(proposer, what_is_settled_is_forgotten_and_late)
{
    struct fixture *f = fixture_new(1);
    cr_assert_eq(put_vhost(f, "a", by(1, 1, 1)), CATALOG_OK);
    cr_assert_eq(put_vhost(f, "b", by(1, 2, 1)), CATALOG_OK);
    struct buf *two = buf_new(1024);
    catalog_snapshot(f->catalog, &two);
    cr_assert_eq(put_vhost(f, "b", by(1, 3, 3)), CATALOG_EXISTS);
    struct buf *one = buf_new(1024);
    catalog_snapshot(f->catalog, &one);
    cr_assert_lt(one->size, two->size);
    cr_assert_eq(put_vhost(f, "late", by(1, 2, 1)), CATALOG_LATE);
    cr_assert_eq(put_vhost(f, "late", by(1, 1, 1)), CATALOG_LATE);
    cr_assert_not(has(f, "late"));
    buf_unref(one);
    buf_unref(two);
    fixture_free(f);
}

Test(proposer, a_boot_that_is_over_proposes_nothing)
{
    struct fixture *f = fixture_new(2);
    cr_assert_eq(put_vhost(f, "a", by(2, 1, 1)), CATALOG_OK);
    cr_assert_eq(do_down(f, 2, 2), CATALOG_OK);
    cr_assert_eq(put_vhost(f, "late", by(2, 2, 1)), CATALOG_LATE);
    cr_assert_eq(put_vhost(f, "late", by(2, 1, 1)), CATALOG_LATE);
    cr_assert_eq(put_vhost(f, "late", by(77, 1, 1)), CATALOG_LATE);
    cr_assert_not(has(f, "late"));
    restart(f);
    fixture_free(f);
}

/* Sim seed 500744. */
Test(proposer, a_late_copy_of_a_join_does_not_bring_a_forgotten_node_back)
{
    struct fixture *f = fixture_new(2);
    struct catalog_command join = {.kind = CATALOG_JOIN_NODE, .by = by(1, 1, 1)};
    join.u.join = node_info(3);
    cr_assert_eq(apply(f, &join), CATALOG_OK);
    cr_assert_eq(do_forget(f, 3), CATALOG_OK);
    cr_assert_eq(apply(f, &join), CATALOG_OK);
    cr_assert_null(catalog_node(view_of(f), node_id(3)));
    fixture_free(f);
}

Test(proposer, is_encoded_and_nonsense_is_refused)
{
    struct catalog_command c = {.kind = CATALOG_DELETE_VHOST, .by = by(3, 300, 299)};
    c.u.delete_vhost.name = B("v");
    struct buf *out = buf_new(64);
    struct catalog_command decoded;
    catalog_command_encode(&out, &c);
    cr_assert_eq(catalog_command_decode(bytes_make(out->data, out->size), &decoded), 0);
    cr_assert(decoded.by.boot == 3 && decoded.by.shard == 1 && decoded.by.number == 300 &&
              decoded.by.settled == 299);
    for (size_t cut = 0; cut < out->size; cut++) {
        cr_assert_neq(catalog_command_decode(bytes_make(out->data, cut), &decoded), 0);
    }
    out->size = 0;
    c.by.settled = 301;
    catalog_command_encode(&out, &c);
    cr_assert_eq(catalog_command_decode(bytes_make(out->data, out->size), &decoded), WR_E_CORRUPT);
    buf_unref(out);
}

/* A node of the second layout wrote all but the proposers. */
Test(proposer, snapshots_of_the_second_layout_are_read)
{
    struct fixture *f = fixture_new(2);
    cr_assert_eq(do_vhost(f, "v", true), CATALOG_OK);
    struct buf *bytes = buf_new(1024);
    catalog_snapshot(f->catalog, &bytes);
    cr_assert(bytes->data[0] == 0x9c && bytes->data[1] == CATALOG_MACHINE_VERSION);
    cr_assert_eq(bytes->data[bytes->size - 1], 0x90);
    bytes->data[0] = 0x9b;
    bytes->data[1] = 2;
    cr_assert_eq(catalog_restore(f->catalog, f->index, bytes_make(bytes->data, bytes->size)),
                 WR_E_CORRUPT);
    cr_assert_eq(catalog_restore(f->catalog, f->index, bytes_make(bytes->data, bytes->size - 1)),
                 0);
    cr_assert(has(f, "v"));
    buf_unref(bytes);
    fixture_free(f);
}
