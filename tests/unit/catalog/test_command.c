/*
 * What: encoding of commands: round trips of every kind, refusal of everything else.
 */
#include "catalog_fixture.h"
#include "warren/prng.h"

/* One filled-in command of each kind. */
static uint32_t samples(struct catalog_command *c)
{
    static struct catalog_member members[3];
    static struct bytes tags[2];
    members[0] = (struct catalog_member){{1, 2}, node_id(1), false};
    members[1] = (struct catalog_member){{3, 4}, node_id(2), true};
    members[2] = (struct catalog_member){{5, UINT64_MAX}, node_id(3), false};
    tags[0] = B("a");
    tags[1] = B("");
    const struct catalog_user_spec user = {B("guest"), B("hash"), 1, 7, {2, tags}};
    const struct catalog_queue_spec group = {
        .vhost = B("/"),
        .name = B("q"),
        .arguments = BYTES_LITERAL("\x01zI\0\0\0\x01"),
        .type = CATALOG_QUORUM,
        .run = CATALOG_RUN_GROUP,
        .durable = true,
        .group = {members, 3, 5, node_id(2)},
    };
    const struct catalog_queue_spec local = {
        .vhost = B("/"),
        .name = B("amq.gen-1"),
        .type = CATALOG_CLASSIC,
        .run = CATALOG_RUN_LOCAL,
        .exclusive = true,
        .auto_delete = true,
        .owner = {UINT32_MAX, UINT64_MAX},
        .local = {node_id(1), 7, 3},
    };
    const struct catalog_command list[] = {
        {.kind = CATALOG_CLUSTER_INIT, .u.init = {{1, 2}, B("c"), node_info(1), B("/"), user}},
        {.kind = CATALOG_SET_CLUSTER_NAME, .u.cluster_name = {B("n")}},
        {.kind = CATALOG_JOIN_NODE, .u.join = node_info(2)},
        {.kind = CATALOG_NODE_BOOT, .u.boot = {node_info(3), {4, 5}}},
        {.kind = CATALOG_NODE_DOWN, .u.down = {node_id(1), 17}},
        {.kind = CATALOG_FORGET_NODE, .u.forget = {node_id(9)}},
        {.kind = CATALOG_PUT_VHOST, .u.vhost = {B("v"), B("d"), B("quorum"), {2, tags}, true}},
        {.kind = CATALOG_DELETE_VHOST, .u.delete_vhost = {B("v")}},
        {.kind = CATALOG_PUT_USER, .u.user = user},
        {.kind = CATALOG_DELETE_USER, .u.delete_user = {B("u")}},
        {.kind = CATALOG_SET_PERMISSION, .u.permission = {B("u"), B("/"), B("a"), B(""), B(".*")}},
        {.kind = CATALOG_CLEAR_PERMISSION, .u.permission = {.user = B("u"), .vhost = B("/")}},
        {.kind = CATALOG_DECLARE_EXCHANGE,
         .u.exchange = {B("/"), B("x"), B("topic"), BYTES_LITERAL("\x01at\x01"), true, false,
                        true}},
        {.kind = CATALOG_DELETE_EXCHANGE, .u.delete_exchange = {B("/"), B("x"), true}},
        {.kind = CATALOG_DECLARE_QUEUE, .u.queue = group},
        {.kind = CATALOG_DECLARE_QUEUE, .u.queue = local},
        {.kind = CATALOG_DELETE_QUEUE, .u.delete_queue = {UINT64_MAX}},
        {.kind = CATALOG_SET_REPLICAS, .u.replicas = {9, 8, members, 3, 3, node_id(1)}},
        {.kind = CATALOG_BIND,
         .u.binding = {B("/"), B("x"), B("q"), B("k.#"), BYTES_LITERAL("\x01at\x01"), 1}},
        {.kind = CATALOG_UNBIND, .u.binding = {B("/"), B("x"), B("y"), BYTES_NONE, BYTES_NONE, 2}},
    };
    const uint32_t count = sizeof(list) / sizeof(list[0]);
    memcpy(c, list, sizeof(list));
    return count;
}

#define SAMPLES_MAX 32

static struct buf *encode(const struct catalog_command *c)
{
    struct buf *out = buf_new(64);
    catalog_command_encode(&out, c);
    return out;
}

static int decode_copy(struct bytes input, struct catalog_command *c)
{
    uint8_t *copy = wr_memdup(input.data, input.size);
    const int error = catalog_command_decode(bytes_make(copy, input.size), c);
    if (error == 0) {
        /* What was decoded encodes to the same bytes: nothing was lost or invented. */
        struct buf *again = encode(c);
        cr_assert(bytes_eq(input, bytes_make(again->data, again->size)));
        buf_unref(again);
    }
    wr_free(copy);
    return error;
}

Test(command, every_kind_round_trips)
{
    static struct catalog_command list[SAMPLES_MAX];
    const uint32_t count = samples(list);
    for (uint32_t i = 0; i < count; i++) {
        cr_assert(catalog_command_valid(&list[i]), "sample %u", i);
        struct buf *bytes = encode(&list[i]);
        static struct catalog_command decoded;
        cr_assert_eq(decode_copy(bytes_make(bytes->data, bytes->size), &decoded), 0, "sample %u",
                     i);
        cr_assert_eq(decoded.kind, list[i].kind);
        buf_unref(bytes);
    }
}

Test(command, decoded_fields_are_what_was_encoded)
{
    static struct catalog_command list[SAMPLES_MAX];
    static struct catalog_command d;
    (void)samples(list);
    struct buf *bytes = encode(&list[14]);
    cr_assert_eq(catalog_command_decode(bytes_make(bytes->data, bytes->size), &d), 0);
    cr_assert(bytes_eq_cstr(d.u.queue.name, "q") && d.u.queue.durable && !d.u.queue.exclusive);
    cr_assert_eq(d.u.queue.group.member_count, 3);
    cr_assert(d.u.queue.group.members[1].learner);
    cr_assert(uid_eq(d.u.queue.group.members[2].id, ((struct uid){5, UINT64_MAX})));
    cr_assert_eq(d.u.queue.group.target_size, 5);
    buf_unref(bytes);
    bytes = encode(&list[0]);
    cr_assert_eq(catalog_command_decode(bytes_make(bytes->data, bytes->size), &d), 0);
    cr_assert(bytes_eq_cstr(d.u.init.node.name, "w1@h"));
    cr_assert_eq(d.u.init.user.tags.count, 2);
    cr_assert(bytes_eq_cstr(d.u.init.user.tags.items[0], "a"));
    buf_unref(bytes);
}

Test(command, every_prefix_and_every_longer_input_is_refused)
{
    static struct catalog_command list[SAMPLES_MAX];
    static struct catalog_command decoded;
    const uint32_t count = samples(list);
    for (uint32_t i = 0; i < count; i++) {
        struct buf *bytes = encode(&list[i]);
        for (uint32_t size = 0; size < bytes->size; size++) {
            cr_assert_lt(decode_copy(bytes_make(bytes->data, size), &decoded), 0);
        }
        buf_append(&bytes, "\xc0", 1);
        cr_assert_eq(decode_copy(bytes_make(bytes->data, bytes->size), &decoded), WR_E_CORRUPT);
        buf_unref(bytes);
    }
}

/* Damage: refused, or another command that encodes to the same bytes; and apply never crashes. */
Test(command, damaged_bytes_are_safe_to_decode_and_apply)
{
    static struct catalog_command list[SAMPLES_MAX];
    static struct catalog_command decoded;
    const uint32_t count = samples(list);
    struct prng p;
    prng_init(&p, 3);
    struct fixture *f = fixture_new(3);
    for (int round = 0; round < 60000; round++) {
        struct buf *bytes = encode(&list[prng_below(&p, count)]);
        for (uint64_t k = 1 + prng_below(&p, 3); k > 0; k--) {
            bytes->data[prng_below(&p, bytes->size)] = (uint8_t)prng_u64(&p);
        }
        const struct bytes input = bytes_make(bytes->data, bytes->size);
        if (decode_copy(input, &decoded) == 0 && catalog_command_decode(input, &decoded) == 0) {
            catalog_apply(f->catalog, ++f->index, &decoded, &f->result);
        }
        buf_unref(bytes);
    }
    catalog_check(f->catalog);
    check_indexes(f);
    fixture_free(f);
}

Test(command, newer_versions_and_unknown_kinds_stop_the_machine)
{
    struct fixture *f = fixture_new(1);
    const uint64_t hash = catalog_hash(f->catalog);
    struct catalog_result result;
    const struct bytes newer = BYTES_LITERAL("\x93\x05\x01\x90");
    const struct bytes unknown = BYTES_LITERAL("\x93\x01\x7f\x90");
    const struct bytes huge_kind = BYTES_LITERAL("\x93\x01\xcd\x03\x01\x90");
    cr_assert_eq(catalog_apply_bytes(f->catalog, 100, newer, &result), WR_E_VERSION);
    cr_assert_eq(catalog_apply_bytes(f->catalog, 100, unknown, &result), WR_E_VERSION);
    cr_assert_eq(catalog_apply_bytes(f->catalog, 100, huge_kind, &result), WR_E_VERSION);
    cr_assert_lt(catalog_applied(f->catalog), 100);
    /* Damaged bytes are a command without effect, on every node alike. */
    cr_assert_eq(catalog_apply_bytes(f->catalog, 100, BYTES_LITERAL("\x93\x01"), &result), 0);
    cr_assert_eq(result.status, CATALOG_INVALID);
    cr_assert_eq(catalog_applied(f->catalog), 100);
    cr_assert_eq(catalog_hash(f->catalog), hash);
    fixture_free(f);
}

Test(command, limits_are_checked)
{
    static char big[CATALOG_ARGUMENTS_MAX + 2];
    memset(big, 'x', sizeof(big) - 1);
    struct catalog_command c = {.kind = CATALOG_DELETE_VHOST, .u.delete_vhost = {B("")}};
    cr_assert(!catalog_command_valid(&c));
    c.u.delete_vhost.name = bytes_make(big, 256);
    cr_assert(!catalog_command_valid(&c));
    c.u.delete_vhost.name.size = 255;
    cr_assert(catalog_command_valid(&c));
    c = (struct catalog_command){
        .kind = CATALOG_BIND,
        .u.binding = {B("/"), B("x"), B("q"), B("k"), bytes_make(big, CATALOG_ARGUMENTS_MAX), 1}};
    cr_assert(catalog_command_valid(&c));
    c.u.binding.arguments.size++;
    cr_assert(!catalog_command_valid(&c));
    c.u.binding.arguments.size = 0;
    c.u.binding.destination_kind = 3;
    cr_assert(!catalog_command_valid(&c));
    c.kind = 0;
    cr_assert(!catalog_command_valid(&c));
    c.kind = 39;
    cr_assert(!catalog_command_valid(&c));
    static struct catalog_member members[CATALOG_REPLICAS_MAX + 1];
    c = (struct catalog_command){
        .kind = CATALOG_SET_REPLICAS,
        .u.replicas = {.members = members, .member_count = CATALOG_REPLICAS_MAX + 1}};
    cr_assert(!catalog_command_valid(&c));
    /* The machine answers such a command; it does not assert. */
    struct fixture *f = fixture_new(1);
    catalog_apply(f->catalog, ++f->index, &c, &f->result);
    cr_assert_eq(f->result.status, CATALOG_INVALID);
    fixture_free(f);
}
