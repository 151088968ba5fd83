/* Limits, seats, topic permissions, parameters, vhosts' texts; and snapshots from before them. */
#include "policy_fixture.h"

Test(limits, of_queues_are_kept_by_the_machine)
{
    struct fixture *f = fixture_new(2);
    cr_assert_eq(do_vhost_limits(f, "nowhere", 1, 1), CATALOG_NO_VHOST);
    cr_assert_eq(do_vhost_limits(f, "/", -1, 2), CATALOG_OK);
    /* Two nodes that both saw one queue propose one each: the second is refused. */
    cr_assert_eq(do_group(f, "/", "a", "1"), CATALOG_OK);
    cr_assert_eq(do_local(f, "/", "b", 2, 2, 0), CATALOG_OK);
    cr_assert_eq(do_group(f, "/", "c", "2"), CATALOG_LIMIT);
    cr_assert_eq(do_group(f, "/", "a", "1"), CATALOG_EXISTS);
    cr_assert_eq(do_vhost(f, "v", true), CATALOG_OK); /* the limit is of one vhost */
    cr_assert_eq(do_group(f, "v", "c", "2"), CATALOG_OK);
    cr_assert_eq(do_delete_queue(f, find_queue(f, "a")->id), CATALOG_OK);
    cr_assert_eq(do_group(f, "/", "c", "2"), CATALOG_OK);
    cr_assert_eq(do_vhost_limits(f, "/", -1, 1), CATALOG_OK); /* those that are there stay */
    cr_assert_not_null(find_queue(f, "b"));
    cr_assert_eq(do_vhost_limits(f, "/", -1, 0), CATALOG_OK);
    cr_assert_eq(do_group(f, "/", "d", "2"), CATALOG_LIMIT);
    cr_assert_eq(do_vhost_limits(f, "/", -1, -1), CATALOG_OK);
    cr_assert_eq(do_group(f, "/", "d", "2"), CATALOG_OK);
    cr_assert_eq(do_vhost(f, "/", false), CATALOG_OK); /* other texts: the same limits */
    cr_assert_eq(catalog_vhost(view_of(f), B("v"))->limits.queues_max, -1);
    fixture_free(f);
}

static uint8_t version_of(const struct catalog_command *c, struct catalog_command *ret_back)
{
    struct buf *bytes = buf_new(256);
    catalog_command_encode(&bytes, c);
    const uint8_t version = bytes->data[1]; /* behind the head of the array */
    cr_assert_eq(catalog_command_decode(bytes_make(bytes->data, bytes->size), ret_back), 0);
    bytes->data[1] = version == 4 ? 3 : 4;
    struct catalog_command other;
    cr_assert_eq(catalog_command_decode(bytes_make(bytes->data, bytes->size), &other),
                 WR_E_CORRUPT);
    buf_unref(bytes);
    return version;
}

/* A limit that is none is remembered; nodes from before that must not take it for a limit. */
Test(limits, that_were_set_to_none_are_kept)
{
    struct fixture *f = fixture_new(2);
    struct catalog_command back;
    struct catalog_command c = {.kind = CATALOG_SET_VHOST_LIMITS,
                                .u.vhost_limits = {B("/"), {CATALOG_LIMIT_UNSET, -2}}};
    cr_assert_eq(version_of(&c, &back), 4);
    cr_assert_eq(back.u.vhost_limits.limits.queues_max, -2);
    c.by = (struct catalog_proposer){.boot = 1, .shard = 0, .number = 7, .settled = 6};
    cr_assert_eq(version_of(&c, &back), 4);
    cr_assert_eq(back.by.number, 7);
    c.u.vhost_limits.limits.queues_max = 5;
    cr_assert_eq(version_of(&c, &back), 3);
    cr_assert_eq(do_vhost_limits(f, "/", -2, -6), CATALOG_OK);
    cr_assert_eq(do_user_limits(f, "guest", -2, CATALOG_LIMIT_UNSET), CATALOG_OK);
    cr_assert_eq(do_group(f, "/", "a", "1"), CATALOG_OK);
    cr_assert_eq(do_seat(f, 1, 1, "/", "guest", 0, false), CATALOG_OK);
    cr_assert_null(catalog_seat(view_of(f), 1, 1)); /* nothing counts it */
    struct buf *bytes = snapshot_of(f->catalog);
    cr_assert_eq(catalog_restore(f->catalog, f->index, bytes_make(bytes->data, bytes->size)), 0);
    cr_assert_eq(catalog_vhost(view_of(f), B("/"))->limits.connections_max, -2);
    cr_assert_eq(catalog_vhost(view_of(f), B("/"))->limits.queues_max, -6);
    cr_assert_eq(catalog_user(view_of(f), B("guest"))->limits.connections_max, -2);
    bytes->data[1] = 4; /* a layout that knew no such limits */
    cr_assert_eq(catalog_restore(f->catalog, f->index, bytes_make(bytes->data, bytes->size)),
                 WR_E_CORRUPT);
    buf_unref(bytes);
    fixture_free(f);
}

Test(limits, of_connections_are_kept_over_all_nodes)
{
    struct fixture *f = fixture_new(2);
    cr_assert_eq(do_seat(f, 1, 1, "/", "guest", 0, false), CATALOG_OK);
    cr_assert_eq(f->result.id, 0); /* nothing counts it */
    cr_assert_null(catalog_seat(view_of(f), 1, 1));
    cr_assert_eq(do_vhost_limits(f, "/", 2, -1), CATALOG_OK);
    cr_assert_eq(do_seat(f, 1, 1, "/", "guest", 0, true), CATALOG_OK); /* was open before */
    cr_assert_eq(f->result.id, 1);
    cr_assert_eq(do_seat(f, 1, 2, "/", "guest", 0, false), CATALOG_OK);
    cr_assert_eq(do_seat(f, 2, 1, "/", "guest", 0, false), CATALOG_LIMIT);
    cr_assert_eq(f->result.id, 1);
    cr_assert_eq(do_seat(f, 1, 2, "/", "guest", 0, false), CATALOG_OK); /* the same again */
    cr_assert_eq(do_seat(f, 2, 1, "/", "guest", 0, true), CATALOG_OK);  /* over the limit: open */
    cr_assert_eq(catalog_vhost(view_of(f), B("/"))->connection_count, 3);
    cr_assert_eq(do_drop_seat(f, 1, 1), CATALOG_OK);
    cr_assert_eq(do_drop_seat(f, 1, 1), CATALOG_NOT_FOUND);
    cr_assert_eq(do_seat(f, 2, 2, "/", "guest", 0, false), CATALOG_LIMIT);
    cr_assert_eq(do_drop_seat(f, 1, 2), CATALOG_OK);
    cr_assert_eq(do_seat(f, 2, 2, "/", "guest", 0, false), CATALOG_OK);
    cr_assert_eq(do_vhost_limits(f, "/", -1, -1), CATALOG_OK); /* nothing is counted any more */
    cr_assert_null(catalog_seat(view_of(f), 2, 2));
    cr_assert_eq(catalog_vhost(view_of(f), B("/"))->connection_count, 0);
    fixture_free(f);
}

Test(limits, of_users_count_connections_and_channels)
{
    struct fixture *f = fixture_new(2);
    cr_assert_eq(do_user_limits(f, "nobody", 1, 1), CATALOG_NO_USER);
    cr_assert_eq(do_user_limits(f, "guest", 2, 3), CATALOG_OK);
    cr_assert_eq(do_seat(f, 1, 1, "/", "guest", 2, false), CATALOG_OK);
    cr_assert_eq(do_seat(f, 2, 1, "/", "guest", 1, false), CATALOG_OK);
    cr_assert_eq(do_seat(f, 2, 2, "/", "guest", 0, false), CATALOG_LIMIT);
    cr_assert_eq(f->result.id, 2);
    cr_assert_eq(do_seat(f, 2, 1, "/", "guest", 2, false), CATALOG_LIMIT);
    cr_assert_eq(f->result.id, 3);
    cr_assert_eq(catalog_user(view_of(f), B("guest"))->channel_count, 3);
    cr_assert_eq(do_seat(f, 1, 1, "/", "guest", 1, false), CATALOG_OK);
    cr_assert_eq(do_seat(f, 2, 1, "/", "guest", 2, false), CATALOG_OK);
    cr_assert_eq(catalog_user(view_of(f), B("guest"))->channel_count, 3);
    cr_assert_eq(do_seat(f, 2, 1, "/", "other", 2, false), CATALOG_NO_USER);
    cr_assert_eq(do_seat(f, 2, 1, "nowhere", "guest", 2, false), CATALOG_NO_VHOST);
    cr_assert_eq(do_seat(f, 9, 1, "/", "guest", 2, false), CATALOG_STALE);
    fixture_free(f);
}

Test(limits, seats_end_with_their_boot_their_user_and_their_vhost)
{
    struct fixture *f = fixture_new(2);
    cr_assert_eq(do_vhost(f, "v", true), CATALOG_OK);
    cr_assert_eq(do_user(f, "u", "h", CATALOG_USER_CREATE), CATALOG_OK);
    cr_assert_eq(do_user_limits(f, "u", 9, -1), CATALOG_OK);
    cr_assert_eq(do_vhost_limits(f, "v", 9, -1), CATALOG_OK);
    struct catalog_totals totals;
    cr_assert_eq(do_seat(f, 1, 1, "v", "u", 0, false), CATALOG_OK);
    cr_assert_eq(do_seat(f, 2, 1, "v", "u", 0, false), CATALOG_OK);
    cr_assert_eq(do_seat(f, 1, 2, "/", "u", 0, false), CATALOG_OK);
    cr_assert_eq(do_seat(f, 1, 3, "v", "guest", 0, false), CATALOG_OK);
    cr_assert_eq(do_down(f, 2, 2), CATALOG_OK);
    catalog_count(view_of(f), &totals);
    cr_assert_eq(totals.seats, 3);
    cr_assert_eq(do_seat(f, 2, 1, "v", "u", 0, false), CATALOG_STALE);
    cr_assert_eq(do_delete_vhost(f, "v"), CATALOG_OK);
    catalog_count(view_of(f), &totals);
    cr_assert_eq(totals.seats, 1);
    const struct catalog_command c = {.kind = CATALOG_DELETE_USER, .u.delete_user = {B("u")}};
    cr_assert_eq(apply(f, &c), CATALOG_OK);
    catalog_count(view_of(f), &totals);
    cr_assert_eq(totals.seats, 0);
    fixture_free(f);
}

Test(topic_permissions, are_set_cleared_and_go_with_vhost_and_user)
{
    struct fixture *f = fixture_new(1);
    cr_assert_eq(do_vhost(f, "v", true), CATALOG_OK);
    cr_assert_eq(do_topic_permission(f, "nobody", "/", "x", true), CATALOG_NO_USER);
    cr_assert_eq(do_topic_permission(f, "guest", "w", "x", true), CATALOG_NO_VHOST);
    cr_assert_eq(do_topic_permission(f, "guest", "/", "x", true), CATALOG_OK);
    cr_assert_eq(do_topic_permission(f, "guest", "/", "y", true), CATALOG_OK);
    cr_assert_eq(do_topic_permission(f, "guest", "v", "x", true), CATALOG_OK);
    const struct catalog_topic_permission *p =
        catalog_topic_permission(view_of(f), B("guest"), B("/"), B("x"));
    cr_assert(p != NULL && bytes_eq_cstr(p->write, "^w") && bytes_eq_cstr(p->read, "^r"));
    cr_assert_eq(do_topic_permission(f, "guest", "/", "x", false), CATALOG_OK);
    cr_assert_eq(do_topic_permission(f, "guest", "/", "x", false), CATALOG_NOT_FOUND);
    cr_assert_null(catalog_topic_permission(view_of(f), B("guest"), B("/"), B("x")));
    cr_assert_not_null(catalog_topic_permission(view_of(f), B("guest"), B("/"), B("y")));
    cr_assert_eq(do_topic_permission(f, "guest", "/", "", false), CATALOG_OK);
    cr_assert_null(catalog_topic_permission(view_of(f), B("guest"), B("/"), B("y")));
    cr_assert_not_null(catalog_topic_permission(view_of(f), B("guest"), B("v"), B("x")));
    cr_assert_eq(do_delete_vhost(f, "v"), CATALOG_OK);
    cr_assert_null(catalog_topic_permission(view_of(f), B("guest"), B("v"), B("x")));
    fixture_free(f);
}

Test(parameters, are_of_a_vhost_or_global)
{
    struct fixture *f = fixture_new(1);
    struct catalog_totals totals;
    cr_assert_eq(do_parameter(f, "nowhere", "shovel", "s", "1", true), CATALOG_NO_VHOST);
    cr_assert_eq(do_parameter(f, "/", "shovel", "s", "[1,a]", true), CATALOG_OK);
    cr_assert_eq(do_parameter(f, "", "", "s", "text", true), CATALOG_OK);
    cr_assert_not_null(catalog_parameter(view_of(f), B("/"), B("shovel"), B("s")));
    cr_assert_null(catalog_parameter(view_of(f), B("/"), B("shove"), B("ls")));
    const struct catalog_parameter *p = catalog_parameter(view_of(f), B(""), B(""), B("s"));
    cr_assert(p != NULL && p->value.data[0] == 'S');
    catalog_count(view_of(f), &totals);
    cr_assert_eq(totals.parameters, 2);
    const struct catalog_command bad = {
        .kind = CATALOG_PUT_PARAMETER,
        .u.parameter = {B("/"), B("c"), B("n"), BYTES_LITERAL("t\x01t\x01")}};
    cr_assert_eq(apply(f, &bad), CATALOG_INVALID); /* two values */
    cr_assert_eq(do_parameter(f, "", "", "s", "", false), CATALOG_OK);
    cr_assert_eq(do_parameter(f, "", "", "s", "", false), CATALOG_NOT_FOUND);
    fixture_free(f);
}

Test(vhosts, change_the_texts_that_are_named)
{
    struct fixture *f = fixture_new(1);
    struct catalog_command c = {
        .kind = CATALOG_CHANGE_VHOST,
        .u.change_vhost = {{.name = B("/"), .description = B("new"), .default_queue_type = B("x")},
                           CATALOG_VHOST_DESCRIPTION}};
    cr_assert_eq(do_group(f, "/", "q", "1"), CATALOG_OK);
    cr_assert_eq(apply(f, &c), CATALOG_OK);
    const struct catalog_vhost *v = catalog_vhost(view_of(f), B("/"));
    cr_assert(bytes_eq_cstr(v->description, "new") && v->default_queue_type.size == 0);
    c.u.change_vhost.parts = CATALOG_VHOST_QUEUE_TYPE;
    c.u.change_vhost.spec.default_queue_type = B("quorum");
    cr_assert_eq(apply(f, &c), CATALOG_OK);
    v = catalog_vhost(view_of(f), B("/"));
    cr_assert(bytes_eq_cstr(v->description, "new") &&
              bytes_eq_cstr(v->default_queue_type, "quorum"));
    cr_assert_not_null(find_queue(f, "q"));
    c.u.change_vhost.spec.name = B("nowhere");
    cr_assert_eq(apply(f, &c), CATALOG_NO_VHOST);
    fixture_free(f);
}

/* What a node of the first layout has written is read, and goes on as if it had been written now.
 */
Test(formats, the_first_layout_of_snapshots_is_read)
{
    static uint8_t bytes[4096];
    FILE *file = fopen(WR_TEST_FORMATS "/catalog-snapshot-v1.bin", "rb");
    cr_assert_not_null(file);
    const size_t size = fread(bytes, 1, sizeof bytes, file);
    (void)fclose(file);
    cr_assert_eq(bytes[1], 1);
    struct fixture *f = wr_calloc(1, sizeof *f);
    f->catalog = catalog_new(&fake_ops, &log_sink, f);
    f->index = 15;
    cr_assert_eq(catalog_restore(f->catalog, 15, bytes_make(bytes, size)), 0);
    catalog_check(f->catalog);
    struct catalog_totals totals;
    catalog_count(view_of(f), &totals);
    cr_assert_eq(totals.nodes, 3);
    cr_assert_eq(totals.vhosts, 2);
    cr_assert_eq(totals.users, 2);
    cr_assert_eq(totals.queues, 2);
    cr_assert_eq(totals.bindings, 1);
    cr_assert_eq(catalog_vhost(view_of(f), B("v"))->limits.queues_max, -1);
    cr_assert_eq(catalog_user(view_of(f), B("u"))->limits.channels_max, -1);
    cr_assert_eq(find_queue(f, "q")->settings.delivery_limit, 20);
    cr_assert_eq(do_policy(f, "p", "", "max-length=2", 0), CATALOG_OK);
    cr_assert_eq(find_queue(f, "q")->settings.length_max, 2);
    struct buf *again = snapshot_of(f->catalog);
    cr_assert_eq(again->data[1], CATALOG_MACHINE_VERSION);
    cr_assert_eq(catalog_restore(f->catalog, f->index, bytes_make(again->data, again->size)), 0);
    cr_assert_eq(find_queue(f, "q")->settings.length_max, 2);
    buf_unref(again);
    fixture_free(f);
}
