/*
 * What: vhosts, users, exchanges, queues, bindings: every command, every status.
 */
#include "policy_fixture.h"

Test(definitions, vhosts_are_created_changed_and_deleted_with_all_in_them)
{
    struct fixture *f = fixture_new(1);
    cr_assert_eq(do_vhost(f, "v", true), CATALOG_OK);
    cr_assert_eq(do_vhost(f, "v", true), CATALOG_EXISTS);
    const struct bytes tags[] = {B("prod"), B("eu")};
    const struct catalog_command c = {.kind = CATALOG_PUT_VHOST,
                                      .u.vhost = {.name = B("v"),
                                                  .description = B("text"),
                                                  .default_queue_type = B("quorum"),
                                                  .tags = {2, tags}}};
    cr_assert_eq(apply(f, &c), CATALOG_OK);
    const struct catalog_vhost *v = catalog_vhost(view_of(f), B("v"));
    cr_assert(bytes_eq_cstr(v->description, "text"));
    cr_assert(bytes_eq_cstr(v->default_queue_type, "quorum"));
    cr_assert(v->tags.count == 2 && bytes_eq_cstr(v->tags.items[1], "eu"));
    cr_assert_not_null(catalog_vhost_exchange(v, B("amq.topic")));
    cr_assert_eq(do_group(f, "v", "q", "1"), CATALOG_OK);
    cr_assert_eq(do_exchange(f, "v", "x", "fanout", 0), CATALOG_OK);
    cr_assert_eq(do_bind_args(f, true, "v", "x", "q", "", CATALOG_TO_QUEUE, BYTES_NONE),
                 CATALOG_OK);
    cr_assert_eq(do_bind_args(f, true, "v", "amq.topic", "x", "", CATALOG_TO_EXCHANGE, BYTES_NONE),
                 CATALOG_OK);
    cr_assert_eq(do_user(f, "u", "h", CATALOG_USER_CREATE), CATALOG_OK);
    cr_assert_eq(do_permission(f, "u", "v", true), CATALOG_OK);
    cr_assert_eq(do_delete_vhost(f, "v"), CATALOG_OK);
    struct catalog_totals totals;
    catalog_count(view_of(f), &totals);
    cr_assert_eq(totals.queues, 0);
    cr_assert_eq(totals.bindings, 0);
    cr_assert_eq(totals.exchanges, 7);
    cr_assert_null(catalog_permission(view_of(f), B("u"), B("v")));
    cr_assert_not_null(strstr(f->log, "-q:q "));
    cr_assert_not_null(strstr(f->log, "-x:x "));
    cr_assert_not_null(strstr(f->log, "-v:v "));
    cr_assert_eq(do_delete_vhost(f, "v"), CATALOG_NOT_FOUND);
    /* Nothing can be made in it. */
    cr_assert_eq(do_group(f, "v", "q", "1"), CATALOG_NO_VHOST);
    cr_assert_eq(do_exchange(f, "v", "x", "fanout", 0), CATALOG_NO_VHOST);
    cr_assert_eq(do_delete_exchange(f, "v", "x", false), CATALOG_NO_VHOST);
    cr_assert_eq(do_bind_args(f, true, "v", "x", "q", "", CATALOG_TO_QUEUE, BYTES_NONE),
                 CATALOG_NO_VHOST);
    cr_assert_eq(do_bind_args(f, false, "v", "x", "q", "", CATALOG_TO_QUEUE, BYTES_NONE),
                 CATALOG_NOT_FOUND);
    /* A vhost of the same name is another one. */
    cr_assert_eq(do_vhost(f, "v", false), CATALOG_OK);
    cr_assert_eq(catalog_vhost(view_of(f), B("v"))->queues, NULL);
    fixture_free(f);
}

Test(definitions, users_keep_what_a_command_does_not_set)
{
    struct fixture *f = fixture_new(1);
    cr_assert_eq(do_user(f, "u", "h1", CATALOG_USER_PASSWORD), CATALOG_NO_USER);
    cr_assert_eq(do_user(f, "u", "h1", CATALOG_USER_CREATE | CATALOG_USER_PASSWORD), CATALOG_OK);
    cr_assert_eq(do_user(f, "u", "h2", CATALOG_USER_CREATE | CATALOG_USER_PASSWORD),
                 CATALOG_EXISTS);
    const struct catalog_user *u = catalog_user(view_of(f), B("u"));
    cr_assert(bytes_eq_cstr(u->password_hash, "h1"));
    cr_assert_eq(u->tags.count, 0);
    cr_assert_eq(do_permission(f, "u", "/", true), CATALOG_OK);
    cr_assert_eq(do_user(f, "u", "h3", CATALOG_USER_TAGS), CATALOG_OK);
    u = catalog_user(view_of(f), B("u"));
    cr_assert(bytes_eq_cstr(u->password_hash, "h1"));
    cr_assert(u->tags.count == 2 && bytes_eq_cstr(u->tags.items[0], "management"));
    cr_assert_eq(do_user(f, "u", "h4", CATALOG_USER_PASSWORD), CATALOG_OK);
    u = catalog_user(view_of(f), B("u"));
    cr_assert(bytes_eq_cstr(u->password_hash, "h4") && u->tags.count == 2);
    cr_assert_not_null(catalog_permission(view_of(f), B("u"), B("/")));
    cr_assert_eq(do_user(f, "w", "h", CATALOG_USER_UPSERT | CATALOG_USER_PASSWORD), CATALOG_OK);
    cr_assert_eq(do_user(f, "", "h", CATALOG_USER_UPSERT), CATALOG_INVALID);
    struct catalog_command c = {.kind = CATALOG_PUT_USER,
                                .u.user = {.name = B("w"), .parts = CATALOG_USER_PASSWORD}};
    cr_assert_eq(apply(f, &c), CATALOG_INVALID); /* no algorithm */
    const struct catalog_command del = {.kind = CATALOG_DELETE_USER, .u.delete_user = {B("u")}};
    cr_assert_eq(apply(f, &del), CATALOG_OK);
    cr_assert_str_eq(f->log, "-u:u ");
    cr_assert_eq(apply(f, &del), CATALOG_NOT_FOUND);
    fixture_free(f);
}

Test(definitions, permissions_need_user_and_vhost)
{
    struct fixture *f = fixture_new(1);
    cr_assert_eq(do_permission(f, "u", "/", true), CATALOG_NO_USER);
    cr_assert_eq(do_user(f, "u", "h", CATALOG_USER_CREATE), CATALOG_OK);
    cr_assert_eq(do_permission(f, "u", "v", true), CATALOG_NO_VHOST);
    cr_assert_eq(do_permission(f, "u", "/", false), CATALOG_NOT_FOUND);
    cr_assert_eq(do_permission(f, "u", "/", true), CATALOG_OK);
    const struct catalog_permission *p = catalog_permission(view_of(f), B("u"), B("/"));
    cr_assert(bytes_eq_cstr(p->configure, "^c") && bytes_eq_cstr(p->write, "^w") &&
              bytes_eq_cstr(p->read, "^r"));
    struct catalog_iter it;
    catalog_iter_permissions_of(&it, catalog_user(view_of(f), B("u")));
    cr_assert_eq(catalog_iter_next(&it), p);
    cr_assert_null(catalog_iter_next(&it));
    cr_assert_eq(do_permission(f, "u", "/", false), CATALOG_OK);
    cr_assert_null(catalog_permission(view_of(f), B("u"), B("/")));
    fixture_free(f);
}

Test(definitions, exchanges_are_declared_once_and_deleted)
{
    struct fixture *f = fixture_new(1);
    cr_assert_eq(do_exchange(f, "/", "x", "topic", X_DURABLE), CATALOG_OK);
    const uint64_t id = f->result.id;
    cr_assert_eq(find_exchange(f, "x")->id, id);
    cr_assert_eq(do_exchange(f, "/", "x", "direct", 0), CATALOG_EXISTS);
    cr_assert_eq(f->result.id, id);
    cr_assert(bytes_eq_cstr(find_exchange(f, "x")->type, "topic"));
    cr_assert_eq(do_exchange(f, "/", "", "direct", 0), CATALOG_EXISTS);
    cr_assert_eq(do_delete_exchange(f, "/", "amq.topic", false), CATALOG_REFUSED);
    cr_assert_eq(do_delete_exchange(f, "/", "", false), CATALOG_REFUSED);
    cr_assert_eq(do_delete_exchange(f, "/", "none", false), CATALOG_NOT_FOUND);
    cr_assert_eq(do_group(f, "/", "q", "1"), CATALOG_OK);
    cr_assert_eq(do_bind(f, "x", "q", "k"), CATALOG_OK);
    cr_assert_eq(do_delete_exchange(f, "/", "x", true), CATALOG_IN_USE);
    cr_assert_eq(do_delete_exchange(f, "/", "x", false), CATALOG_OK);
    cr_assert_str_eq(f->log, "-x:x ");
    struct catalog_totals totals;
    catalog_count(view_of(f), &totals);
    cr_assert_eq(totals.bindings, 0);
    cr_assert_eq(do_exchange(f, "/", "x", "topic", X_DURABLE), CATALOG_OK);
    cr_assert_neq(f->result.id, id);
    /* Being a destination is no use that if-unused minds. */
    cr_assert_eq(do_bind_exchange(f, "amq.topic", "x", "#"), CATALOG_OK);
    cr_assert_eq(do_delete_exchange(f, "/", "x", true), CATALOG_OK);
    cr_assert_null(find_exchange(f, "amq.topic")->bindings);
    fixture_free(f);
}

Test(definitions, auto_delete_exchanges_go_with_their_last_binding_as_source)
{
    struct fixture *f = fixture_new(1);
    cr_assert_eq(do_group(f, "/", "q", "1"), CATALOG_OK);
    cr_assert_eq(do_group(f, "/", "r", "1"), CATALOG_OK);
    cr_assert_eq(do_exchange(f, "/", "x", "direct", X_AUTO_DELETE), CATALOG_OK);
    /* Not before the first binding; bindings as destination do not count. */
    cr_assert_eq(do_bind_exchange(f, "amq.topic", "x", "k"), CATALOG_OK);
    cr_assert_eq(
        do_bind_args(f, false, "/", "amq.topic", "x", "k", CATALOG_TO_EXCHANGE, BYTES_NONE),
        CATALOG_OK);
    cr_assert_not_null(find_exchange(f, "x"));
    cr_assert_eq(do_bind(f, "x", "q", "k"), CATALOG_OK);
    cr_assert_eq(do_bind(f, "x", "r", "k"), CATALOG_OK);
    cr_assert_eq(do_unbind(f, "x", "q", "k"), CATALOG_OK);
    cr_assert_not_null(find_exchange(f, "x"));
    cr_assert_eq(do_delete_queue(f, find_queue(f, "r")->id), CATALOG_OK);
    cr_assert_null(find_exchange(f, "x"));
    cr_assert_str_eq(f->log, "-q:r -x:x ");
    fixture_free(f);
}

/* A chain as long as a client likes: no recursion. */
Test(definitions, auto_delete_cascades_along_a_chain)
{
    struct fixture *f = fixture_new(1);
    cr_assert_eq(do_group(f, "/", "q", "1"), CATALOG_OK);
    const int length = 300;
    char name[16];
    char before[16];
    for (int i = 0; i < length; i++) {
        snprintf(name, sizeof(name), "x%d", i);
        cr_assert_eq(do_exchange(f, "/", name, "fanout", X_AUTO_DELETE), CATALOG_OK);
        if (i == 0) {
            cr_assert_eq(do_bind(f, name, "q", ""), CATALOG_OK);
        } else {
            cr_assert_eq(do_bind_exchange(f, name, before, ""), CATALOG_OK);
        }
        memcpy(before, name, sizeof(name));
    }
    cr_assert_eq(do_delete_queue(f, find_queue(f, "q")->id), CATALOG_OK);
    struct catalog_totals totals;
    catalog_count(view_of(f), &totals);
    cr_assert_eq(totals.exchanges, 7);
    cr_assert_eq(totals.bindings, 0);
    fixture_free(f);
}

Test(definitions, an_exchange_bound_to_itself_can_be_deleted)
{
    struct fixture *f = fixture_new(1);
    cr_assert_eq(do_exchange(f, "/", "x", "fanout", X_AUTO_DELETE), CATALOG_OK);
    cr_assert_eq(do_exchange(f, "/", "y", "fanout", X_AUTO_DELETE), CATALOG_OK);
    cr_assert_eq(do_bind_exchange(f, "x", "x", "1"), CATALOG_OK);
    cr_assert_eq(do_bind_exchange(f, "x", "y", "2"), CATALOG_OK);
    cr_assert_eq(do_bind_exchange(f, "y", "x", "3"), CATALOG_OK);
    cr_assert_eq(do_delete_exchange(f, "/", "x", false), CATALOG_OK);
    cr_assert_null(find_exchange(f, "x"));
    cr_assert_null(find_exchange(f, "y")); /* lost its last binding */
    fixture_free(f);
}

Test(definitions, queues_are_declared_once_and_deleted_by_id)
{
    struct fixture *f = fixture_new(3);
    cr_assert_eq(do_group(f, "/", "q", "213"), CATALOG_OK);
    const uint64_t id = f->result.id;
    cr_assert_eq(id, f->index);
    const struct catalog_queue *q = find_queue(f, "q");
    cr_assert_eq(q, catalog_queue_by_id(view_of(f), id));
    cr_assert(q->spec.durable && q->spec.type == CATALOG_QUORUM);
    cr_assert_eq(q->spec.group.member_count, 3);
    cr_assert(uid_cmp(q->spec.group.members[0].id, q->spec.group.members[1].id) < 0);
    cr_assert(uid_eq(q->spec.group.preferred, node_id(2)));
    cr_assert_eq(do_group(f, "/", "q", "1"), CATALOG_EXISTS);
    cr_assert_eq(f->result.id, id);
    cr_assert_eq(do_delete_queue(f, id), CATALOG_OK);
    cr_assert_eq(do_delete_queue(f, id), CATALOG_NOT_FOUND);
    cr_assert_eq(do_group(f, "/", "q", "1"), CATALOG_OK);
    cr_assert_neq(f->result.id, id);
    cr_assert_eq(do_delete_queue(f, id), CATALOG_NOT_FOUND); /* not the one that was meant */
    cr_assert_not_null(find_queue(f, "q"));
    fixture_free(f);
}

Test(definitions, impossible_groups_are_refused)
{
    struct fixture *f = fixture_new(2);
    cr_assert_eq(do_group(f, "/", "q", ""), CATALOG_INVALID);
    cr_assert_eq(do_group(f, "/", "q", "11"), CATALOG_INVALID);
    cr_assert_eq(do_group(f, "/", "q", "13"), CATALOG_NO_NODE);
    struct catalog_member member = {{1, 1}, node_id(1), true};
    struct catalog_command c = {.kind = CATALOG_DECLARE_QUEUE,
                                .u.queue = {.vhost = B("/"),
                                            .name = B("q"),
                                            .type = CATALOG_CLASSIC,
                                            .run = CATALOG_RUN_GROUP,
                                            .durable = true,
                                            .group = {&member, 1, 1, UID_NONE}}};
    cr_assert_eq(apply(f, &c), CATALOG_INVALID); /* no voter */
    member.learner = false;
    c.u.queue.group.preferred = node_id(2);
    cr_assert_eq(apply(f, &c), CATALOG_INVALID); /* preferred is no member */
    c.u.queue.group.preferred = UID_NONE;
    c.u.queue.exclusive = true;
    c.u.queue.owner.boot = 99;
    cr_assert_eq(apply(f, &c), CATALOG_STALE); /* owner's boot never was */
    c.u.queue.owner.boot = 2;
    cr_assert_eq(apply(f, &c), CATALOG_OK);
    /* An exclusive queue ends with its owner's boot wherever it runs. */
    cr_assert_eq(do_down(f, 2, 2), CATALOG_OK);
    cr_assert_null(find_queue(f, "q"));
    fixture_free(f);
}

Test(definitions, replicas_change_by_compare_and_set)
{
    struct fixture *f = fixture_new(3);
    cr_assert_eq(do_group(f, "/", "q", "1"), CATALOG_OK);
    const uint64_t id = f->result.id;
    const struct catalog_member members[] = {{{8, 2}, node_id(2), true},
                                             {{id, 99}, node_id(1), false}}; /* as declared */
    struct catalog_command c = {.kind = CATALOG_SET_REPLICAS,
                                .u.replicas = {.id = id,
                                               .version = id,
                                               .members = members,
                                               .member_count = 2,
                                               .target_size = 2,
                                               .preferred = node_id(1)}};
    cr_assert_eq(apply(f, &c), CATALOG_OK);
    cr_assert_str_eq(f->log, "~q:q:1>2 ");
    const struct catalog_queue *q = find_queue(f, "q");
    cr_assert_eq(q->replicas_version, f->index);
    cr_assert(!q->spec.group.members[0].learner && q->spec.group.members[1].learner);
    cr_assert_eq(catalog_node(view_of(f), node_id(2))->replica_count, 1);
    cr_assert_eq(apply(f, &c), CATALOG_STALE);
    c.u.replicas.version = q->replicas_version;
    c.u.replicas.preferred = node_id(3);
    cr_assert_eq(apply(f, &c), CATALOG_INVALID);
    c.u.replicas.preferred = UID_NONE;
    c.u.replicas.member_count = 0;
    cr_assert_eq(apply(f, &c), CATALOG_INVALID);
    c.u.replicas.id = 12345;
    cr_assert_eq(apply(f, &c), CATALOG_NOT_FOUND);
    cr_assert_eq(do_local(f, "/", "t", 1, 1, 0), CATALOG_OK);
    c.u.replicas.id = f->result.id;
    cr_assert_eq(apply(f, &c), CATALOG_REFUSED);
    fixture_free(f);
}

static int set_members(struct fixture *f, const char *queue, const struct catalog_member *members,
                       uint32_t count)
{
    const struct catalog_queue *q = find_queue(f, queue);
    const struct catalog_command c = {.kind = CATALOG_SET_REPLICAS,
                                      .u.replicas = {.id = q->id,
                                                     .version = q->replicas_version,
                                                     .members = members,
                                                     .member_count = count,
                                                     .target_size = count}};
    return apply(f, &c);
}

static void assert_founders(struct fixture *f, const char *queue, uint64_t id)
{
    const struct catalog_members founders = catalog_queue_founders(find_queue(f, queue));
    cr_assert_eq(founders.count, 2);
    for (uint32_t i = 0; i < 2; i++) {
        cr_assert(uid_eq(founders.items[i].id, (struct uid){id, 98 + i}));
        cr_assert(uid_eq(founders.items[i].node, node_id(2 - i)));
        cr_assert_eq(founders.items[i].learner, false);
    }
}

static void restore_from_snapshot(struct fixture *f)
{
    const uint64_t hash = catalog_hash(f->catalog);
    struct buf *bytes = buf_new(1024);
    catalog_snapshot(f->catalog, &bytes);
    cr_assert_eq(catalog_restore(f->catalog, f->index, bytes_make(bytes->data, bytes->size)), 0);
    cr_assert_eq(catalog_hash(f->catalog), hash);
    catalog_check(f->catalog);
    buf_unref(bytes);
}

/* Sim seeds 101940, 82699. A founder may see a later version of the record first, and has to begin
 * as the others did. */
Test(definitions, founders_stay_whatever_replicas_change)
{
    struct fixture *f = fixture_new(3);
    cr_assert_eq(do_group(f, "/", "q", "12"), CATALOG_OK);
    const uint64_t id = f->result.id;
    const struct catalog_member first = find_queue(f, "q")->spec.group.members[1];
    assert_founders(f, "q", id);
    restore_from_snapshot(f);
    assert_founders(f, "q", id);
    const struct catalog_member more[] = {first, {{8, 3}, node_id(3), true}};
    cr_assert_eq(set_members(f, "q", more, 2), CATALOG_OK);
    assert_founders(f, "q", id);
    const struct catalog_member all[] = {
        first, {{8, 3}, node_id(3), false}, {{8, 2}, node_id(2), false}};
    cr_assert_eq(set_members(f, "q", all, 3), CATALOG_OK);
    cr_assert_eq(do_policy(f, "p", "", "max-length=2", 0), CATALOG_OK);
    assert_founders(f, "q", id);
    restore_from_snapshot(f);
    assert_founders(f, "q", id);
    cr_assert_eq(do_forget(f, 2), CATALOG_OK);
    assert_founders(f, "q", id);
    restore_from_snapshot(f);
    assert_founders(f, "q", id);
    cr_assert_eq(do_local(f, "/", "t", 1, 1, 0), CATALOG_OK);
    cr_assert_eq(catalog_queue_founders(find_queue(f, "t")).count, 0);
    fixture_free(f);
}

/* The bytes of a queue that is as it was declared, with no founders at its end. */
Test(definitions, snapshots_of_the_third_layout_are_read)
{
    struct fixture *f = fixture_new(3);
    cr_assert_eq(do_group(f, "/", "q", "12"), CATALOG_OK);
    const uint8_t id = (uint8_t)f->result.id;
    const uint8_t begin[] = {0x94, id, id, 0x9a}; /* id, version, spec of ten fields, founders */
    struct buf *bytes = buf_new(1024);
    catalog_snapshot(f->catalog, &bytes);
    uint8_t *at = memmem(bytes->data, bytes->size, begin, sizeof begin);
    cr_assert_not_null(at);
    at[0] = 0x93;
    bytes->data[1] = 3;
    struct writer w; /* the preferred leader is the spec's last field */
    writer_init(&w, 64);
    put_u8(&w, 0xc4);
    put_u8(&w, 16);
    put_be64(&w, find_queue(f, "q")->spec.group.preferred.hi);
    put_be64(&w, find_queue(f, "q")->spec.group.preferred.lo);
    put_u8(&w, 0x90);
    const struct bytes last = writer_bytes(&w);
    const uint8_t *end = bytes->data + bytes->size;
    at = memmem(at, (size_t)(end - at), last.data, last.size);
    cr_assert_not_null(at);
    at += last.size;
    memmove(at - 1, at, (size_t)(end - at));
    cr_assert_eq(catalog_restore(f->catalog, f->index, bytes_make(bytes->data, bytes->size)),
                 WR_E_CORRUPT);
    cr_assert_eq(catalog_restore(f->catalog, f->index, bytes_make(bytes->data, bytes->size - 1)),
                 0);
    catalog_check(f->catalog);
    assert_founders(f, "q", id);
    writer_deinit(&w);
    buf_unref(bytes);
    fixture_free(f);
}

/* Sim seed 11446. New members have nothing but what they get from those who were there. */
Test(definitions, a_voter_stays_whatever_replicas_change)
{
    struct fixture *f = fixture_new(3);
    cr_assert_eq(do_group(f, "/", "q", "12"), CATALOG_OK);
    const uint64_t id = f->result.id;
    const struct catalog_member first = {{id, 99}, node_id(1), false};
    struct catalog_member here = {{8, 1}, node_id(1), false}; /* in its place */
    const struct catalog_member third = {{8, 3}, node_id(3), false};
    struct catalog_member learner = first;
    learner.learner = true;
    cr_assert_eq(set_members(f, "q", &here, 1), CATALOG_REFUSED);
    cr_assert_eq(set_members(f, "q", &third, 1), CATALOG_REFUSED);
    const struct catalog_member both[] = {here, third};
    cr_assert_eq(set_members(f, "q", both, 2), CATALOG_REFUSED);
    const struct catalog_member demoted[] = {learner, third};
    cr_assert_eq(set_members(f, "q", demoted, 2), CATALOG_REFUSED);
    const struct catalog_member moved[] = {{first.id, node_id(2), false}, third};
    cr_assert_eq(set_members(f, "q", moved, 2), CATALOG_REFUSED); /* a replica stays where it is */
    cr_assert_eq(find_queue(f, "q")->replicas_version, id);
    const struct catalog_member kept[] = {first, third};
    cr_assert_eq(set_members(f, "q", kept, 2), CATALOG_OK);
    cr_assert_eq(set_members(f, "q", &third, 1), CATALOG_OK);
    const struct catalog_member back[] = {here, third};
    cr_assert_eq(set_members(f, "q", back, 2), CATALOG_OK);
    /* FORGET_NODE asks nobody. */
    cr_assert_eq(do_forget(f, 3), CATALOG_OK);
    cr_assert_eq(find_queue(f, "q")->spec.group.member_count, 1);
    fixture_free(f);
}

Test(definitions, bindings_are_identified_by_both_ends_key_and_arguments)
{
    struct fixture *f = fixture_new(1);
    cr_assert_eq(do_group(f, "/", "q", "1"), CATALOG_OK);
    cr_assert_eq(do_exchange(f, "/", "x", "headers", X_DURABLE), CATALOG_OK);
    cr_assert_eq(do_bind(f, "x", "none", "k"), CATALOG_NO_QUEUE);
    cr_assert_eq(do_bind(f, "none", "q", "k"), CATALOG_NO_EXCHANGE);
    cr_assert_eq(do_bind_exchange(f, "x", "none", "k"), CATALOG_NO_EXCHANGE);
    cr_assert_eq(do_bind(f, "", "q", "k"), CATALOG_REFUSED);
    cr_assert_eq(do_bind_exchange(f, "x", "", "k"), CATALOG_REFUSED);
    cr_assert_eq(do_bind(f, "x", "q", "k"), CATALOG_OK);
    const uint64_t id = f->result.id;
    cr_assert_eq(do_bind(f, "x", "q", "k"), CATALOG_EXISTS);
    cr_assert_eq(f->result.id, id);
    cr_assert_eq(do_bind(f, "x", "q", "l"), CATALOG_OK);
    const struct bytes args = BYTES_LITERAL("\x01"
                                            "at\x01");
    cr_assert_eq(do_bind_args(f, true, "/", "x", "q", "k", CATALOG_TO_QUEUE, args), CATALOG_OK);
    struct catalog_totals totals;
    catalog_count(view_of(f), &totals);
    cr_assert_eq(totals.bindings, 3);
    struct catalog_iter it;
    catalog_iter_bindings_to(&it, view_of(f), CATALOG_TO_QUEUE, find_queue(f, "q")->id);
    int count = 0;
    for (const struct catalog_binding *b; (b = catalog_iter_next(&it)) != NULL; count++) {
        cr_assert(bytes_eq_cstr(b->source, "x") && bytes_eq_cstr(b->destination, "q"));
        cr_assert(b->durable);
    }
    cr_assert_eq(count, 3);
    cr_assert_eq(do_unbind(f, "x", "q", "k"), CATALOG_OK);
    cr_assert_eq(f->result.id, id);
    cr_assert_eq(do_unbind(f, "x", "q", "k"), CATALOG_NOT_FOUND);
    cr_assert_eq(do_unbind(f, "none", "q", "k"), CATALOG_NOT_FOUND);
    catalog_count(view_of(f), &totals);
    cr_assert_eq(totals.bindings, 2);
    check_indexes(f);
    fixture_free(f);
}

Test(definitions, a_binding_is_durable_when_both_ends_are)
{
    struct fixture *f = fixture_new(1);
    cr_assert_eq(do_local(f, "/", "t", 1, 1, 0), CATALOG_OK);
    cr_assert_eq(do_group(f, "/", "d", "1"), CATALOG_OK);
    cr_assert_eq(do_exchange(f, "/", "tx", "direct", 0), CATALOG_OK);
    static const struct {
        const char *source, *queue;
        bool durable;
    } cases[] = {{"amq.direct", "d", true}, {"amq.direct", "t", false}, {"tx", "d", false}};
    for (size_t i = 0; i < 3; i++) {
        cr_assert_eq(do_bind(f, cases[i].source, cases[i].queue, "k"), CATALOG_OK);
        const struct catalog_binding_spec spec = {B("/"), B(cases[i].source), B(cases[i].queue),
                                                  B("k"), BYTES_NONE,         CATALOG_TO_QUEUE};
        cr_assert_eq(catalog_binding(view_of(f), &spec)->durable, cases[i].durable);
    }
    fixture_free(f);
}

/* Exchanges of a type that this build does not have exist, and have no index. */
Test(definitions, unknown_exchange_types_have_bindings_but_no_index)
{
    struct fixture *f = fixture_new(1);
    cr_assert_eq(do_group(f, "/", "q", "1"), CATALOG_OK);
    cr_assert_eq(do_exchange(f, "/", "x", "strange", X_DURABLE), CATALOG_OK);
    cr_assert_eq(do_bind(f, "x", "q", "k"), CATALOG_OK);
    cr_assert_null(find_exchange(f, "x")->index);
    cr_assert_not_null(find_exchange(f, "x")->bindings);
    cr_assert_eq(do_unbind(f, "x", "q", "k"), CATALOG_OK);
    fixture_free(f);
}

Test(definitions, status_texts_exist)
{
    for (int i = 0; i <= CATALOG_NOT_FORMED; i++) {
        cr_assert_str_neq(catalog_status_text(i), "unknown");
    }
    cr_assert_str_eq(catalog_status_text(-1), "unknown");
    cr_assert_str_eq(catalog_status_text(1000), "unknown");
}
