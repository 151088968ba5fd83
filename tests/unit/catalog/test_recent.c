/* The history of an x-recent-history exchange: a queue that lives and goes with it. */
#include "catalog_fixture.h"
#include "warren/wire_table.h"

static struct catalog_queue_spec spec_of(const char *name, bool durable)
{
    static const struct catalog_member members[] = {{.id = {7, 1}, .node = {0xabcd, 1}}};
    return (struct catalog_queue_spec){.vhost = B("/"),
                                       .name = B(name),
                                       .type = CATALOG_HISTORY,
                                       .run = CATALOG_RUN_GROUP,
                                       .durable = durable,
                                       .group = {members, 1, 1, {0, 0}}};
}

static int put(struct fixture *f, const struct catalog_queue_spec *spec)
{
    struct catalog_command c = {.kind = CATALOG_DECLARE_QUEUE};
    c.u.queue = *spec;
    return apply(f, &c);
}

static const struct catalog_queue *find_history(struct fixture *f, const char *name)
{
    const struct catalog_vhost *vhost = catalog_vhost(view_of(f), B("/"));
    return vhost == NULL ? NULL : catalog_vhost_history(vhost, B(name));
}

Test(recent, a_history_is_found_as_such_only)
{
    struct fixture *f = fixture_new(1);
    struct catalog_totals totals;
    cr_assert_eq(do_exchange(f, "/", "x", "x-recent-history", X_DURABLE), CATALOG_OK);
    cr_assert_eq(do_group(f, "/", "x", "1"), CATALOG_OK); /* a queue of the same name */
    cr_assert_eq(do_history(f, "/", "x", "1", true), CATALOG_OK);
    const uint64_t id = f->result.id;
    cr_assert_eq(do_history(f, "/", "x", "1", true), CATALOG_EXISTS);
    cr_assert_eq(f->result.id, id);
    cr_assert_eq(find_history(f, "x")->id, id);
    cr_assert_eq(find_history(f, "x")->settings.length_max, 20);
    cr_assert_eq(find_history(f, "x")->settings.ttl_ms, UINT64_MAX);
    cr_assert_neq(find_queue(f, "x")->id, id);
    struct catalog_iter it;
    catalog_iter_queues(&it, view_of(f), NULL);
    cr_assert_eq(((const struct catalog_queue *)catalog_iter_next(&it))->id,
                 find_queue(f, "x")->id);
    cr_assert_null(catalog_iter_next(&it));
    catalog_count(view_of(f), &totals);
    cr_assert_eq(totals.queues, 1);
    int machines = 0;
    for (catalog_iter_machines(&it, view_of(f)); catalog_iter_next(&it) != NULL;) {
        machines++;
    }
    cr_assert_eq(machines, 2);
    /* Bound to x is the queue, not the history. */
    cr_assert_eq(do_bind(f, "x", "x", "k"), CATALOG_OK);
    cr_assert_eq(do_delete_queue(f, find_queue(f, "x")->id), CATALOG_OK);
    cr_assert_not_null(find_history(f, "x"));
    cr_assert_eq(do_bind(f, "x", "x", "k"), CATALOG_NO_QUEUE);
    fixture_free(f);
}

Test(recent, a_history_fits_its_exchange)
{
    struct fixture *f = fixture_new(1);
    cr_assert_eq(do_history(f, "/", "x", "1", true), CATALOG_NO_EXCHANGE);
    cr_assert_eq(do_exchange(f, "/", "x", "fanout", X_DURABLE), CATALOG_OK);
    cr_assert_eq(do_history(f, "/", "x", "1", true), CATALOG_STALE);
    cr_assert_eq(do_exchange(f, "/", "y", "x-recent-history", 0), CATALOG_OK);
    cr_assert_eq(do_history(f, "/", "y", "1", true), CATALOG_STALE);
    struct catalog_queue_spec spec = spec_of("y", false);
    struct writer w;
    writer_init(&w, 64);
    wire_table_put_int32(&w, CATALOG_HISTORY_LENGTH, 3);
    spec.arguments = writer_bytes(&w);
    cr_assert_eq(put(f, &spec), CATALOG_STALE);
    writer_deinit(&w);
    spec = spec_of("y", false);
    spec.auto_delete = true;
    cr_assert_eq(put(f, &spec), CATALOG_INVALID);
    cr_assert_null(find_history(f, "y"));
    cr_assert_eq(do_history(f, "/", "y", "1", false), CATALOG_OK);
    fixture_free(f);
}

/* Neither a limit of the vhost nor a policy is about it. */
Test(recent, limits_and_policies_do_not_reach_it)
{
    struct fixture *f = fixture_new(1);
    const struct catalog_command limits = {.kind = CATALOG_SET_VHOST_LIMITS,
                                           .u.vhost_limits = {B("/"), {-1, 0}}};
    struct catalog_command policy = {.kind = CATALOG_PUT_POLICY};
    struct writer w;
    writer_init(&w, 64);
    wire_table_put_int32(&w, "max-length", 1);
    policy.u.policy = (struct catalog_policy_spec){.vhost = B("/"),
                                                   .name = B("p"),
                                                   .pattern = B(".*"),
                                                   .definition = writer_bytes(&w),
                                                   .apply_to = CATALOG_APPLY_ALL};
    cr_assert_eq(apply(f, &limits), CATALOG_OK);
    cr_assert_eq(apply(f, &policy), CATALOG_OK);
    cr_assert_eq(do_exchange(f, "/", "x", "x-recent-history", 0), CATALOG_OK);
    cr_assert_eq(do_history(f, "/", "x", "1", false), CATALOG_OK);
    cr_assert_eq(apply(f, &policy), CATALOG_OK);
    cr_assert_eq(find_history(f, "x")->settings.length_max, 20);
    cr_assert_null(find_history(f, "x")->policy);
    writer_deinit(&w);
    fixture_free(f);
}

/* Deleted, by its last binding, with its vhost: never one without the other. */
Test(recent, a_history_goes_with_its_exchange)
{
    for (int way = 0; way < 3; way++) {
        struct fixture *f = fixture_new(1);
        cr_assert_eq(do_group(f, "/", "q", "1"), CATALOG_OK);
        cr_assert_eq(do_exchange(f, "/", "x", "x-recent-history", X_AUTO_DELETE), CATALOG_OK);
        cr_assert_eq(do_history(f, "/", "x", "1", false), CATALOG_OK);
        const uint64_t id = f->result.id;
        cr_assert_eq(do_bind(f, "x", "q", ""), CATALOG_OK);
        if (way == 0) {
            cr_assert_eq(do_delete_exchange(f, "/", "x", false), CATALOG_OK);
            cr_assert_str_eq(f->log, "-q:x -x:x ");
        } else if (way == 1) {
            cr_assert_eq(do_delete_queue(f, find_queue(f, "q")->id), CATALOG_OK);
            cr_assert_str_eq(f->log, "-q:q -q:x -x:x ");
        } else {
            cr_assert_eq(do_delete_vhost(f, "/"), CATALOG_OK);
        }
        cr_assert_null(catalog_queue_by_id(view_of(f), id));
        cr_assert_null(find_exchange(f, "x"));
        cr_assert_null(find_history(f, "x"));
        catalog_check(f->catalog);
        fixture_free(f);
    }
}

Test(recent, a_history_is_in_the_snapshot)
{
    struct fixture *f = fixture_new(1);
    cr_assert_eq(do_exchange(f, "/", "x", "x-recent-history", X_DURABLE), CATALOG_OK);
    cr_assert_eq(do_group(f, "/", "x", "1"), CATALOG_OK);
    cr_assert_eq(do_history(f, "/", "x", "1", true), CATALOG_OK);
    const uint64_t id = f->result.id;
    const uint64_t hash = catalog_hash(f->catalog);
    struct buf *bytes = buf_new(256);
    catalog_snapshot(f->catalog, &bytes);
    cr_assert_eq(catalog_restore(f->catalog, f->index, bytes_make(bytes->data, bytes->size)), 0);
    buf_unref(bytes);
    catalog_check(f->catalog);
    cr_assert_eq(catalog_hash(f->catalog), hash);
    cr_assert_eq(find_history(f, "x")->id, id);
    cr_assert_eq(find_history(f, "x")->settings.length_max, 20);
    cr_assert_neq(find_queue(f, "x")->id, id);
    fixture_free(f);
}

/* A node is forgotten and with it the last binding of the exchange, and so the history, which is on
 * that node too: whichever of the two groups is looked at first. */
Test(recent, a_node_is_forgotten_with_all_of_it)
{
    for (int i = 0; i < 40; i++) {
        struct fixture *f = fixture_new(2);
        char name[16];
        for (int k = 0; k < i; k++) { /* other ids, another order */
            (void)do_vhost(f, "/", false);
        }
        cr_assert_eq(do_exchange(f, "/", "x", "x-recent-history", X_AUTO_DELETE), CATALOG_OK);
        cr_assert_eq(do_history(f, "/", "x", i % 2 == 0 ? "2" : "12", false), CATALOG_OK);
        snprintf(name, sizeof name, "q%d", i);
        cr_assert_eq(do_group(f, "/", name, "2"), CATALOG_OK);
        cr_assert_eq(do_bind(f, "x", name, ""), CATALOG_OK);
        cr_assert_eq(do_forget(f, 2), CATALOG_OK);
        cr_assert_null(find_exchange(f, "x"));
        cr_assert_null(find_history(f, "x"));
        catalog_check(f->catalog);
        fixture_free(f);
    }
}

/* An older node must stop at it, not skip what it does not know. */
Test(recent, the_command_is_of_a_later_version)
{
    struct catalog_command c = {.kind = CATALOG_DECLARE_QUEUE};
    struct catalog_command back;
    struct buf *bytes = buf_new(256);
    c.u.queue = spec_of("x", true);
    catalog_command_encode(&bytes, &c);
    cr_assert_eq(bytes->data[1], 2); /* behind the head of the array */
    cr_assert_eq(catalog_command_decode(bytes_make(bytes->data, bytes->size), &back), 0);
    cr_assert_eq(back.u.queue.type, CATALOG_HISTORY);
    bytes->data[1] = 1;
    cr_assert_eq(catalog_command_decode(bytes_make(bytes->data, bytes->size), &back), WR_E_CORRUPT);
    buf_unref(bytes);
}
