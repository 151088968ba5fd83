/* Administration: every call, its command, its outcome and the texts of RabbitMQ. */
#include "rig.h"

#include "warren/broker_admin.h"

TestSuite(broker_admin, .init = rig_init, .fini = rig_deinit);

static void add_user(const char *name, const char *password)
{
    const struct broker_user_change change = {.has_password = true, .password = B(password)};
    CALL(broker_user_add(rig.broker, B(name), &change, rig_done, "add"));
}

static bool login(const char *user, const char *password)
{
    return broker_authenticate(rig.broker, B(user), B(password), true);
}

/* --- users ------------------------------------------------------------------------------------ */

Test(broker_admin, users_are_added_changed_and_deleted)
{
    const struct bytes tags[] = {B("administrator"), B("a b")};
    const struct catalog_tags some = {2, tags};
    struct broker_user_change change = {.tags = &some};
    add_user("u", "secret");
    EXPECT_SAID("add ok 'u' 1 0\n");
    cr_assert(login("u", "secret"));
    add_user("u", "other");
    EXPECT_SAID("add 5 User \"u\" already exists\n");
    add_user("", "other");
    EXPECT_SAID("add 1 user cannot be an empty string\n");
    cr_assert(login("u", "secret"));
    CALL(broker_user_change(rig.broker, B("u"), &change, rig_done, "tags"));
    EXPECT_SAID("tags ok 'u' 1 0\n");
    cr_assert_eq(catalog_user(rig.broker->view, B("u"))->tags.count, 2);
    cr_assert(login("u", "secret"));
    change = (struct broker_user_change){.has_password = true, .password = B("new")};
    CALL(broker_user_change(rig.broker, B("u"), &change, rig_done, "password"));
    CALL(broker_user_change(rig.broker, B("nou"), &change, rig_done, "password"));
    EXPECT_SAID("password ok 'u' 1 0\npassword 2 User \"nou\" does not exist\n");
    cr_assert(login("u", "new") && !login("u", "secret"));
    cr_assert_eq(catalog_user(rig.broker->view, B("u"))->tags.count, 2);
    change.password = B("");
    CALL(broker_user_change(rig.broker, B("u"), &change, rig_done, "clear"));
    EXPECT_SAID("clear ok 'u' 1 0\n");
    cr_assert_not(login("u", "") || login("u", "new"));
    CALL(broker_user_delete(rig.broker, B("u"), rig_done, "delete"));
    CALL(broker_user_delete(rig.broker, B("u"), rig_done, "delete"));
    EXPECT_SAID("delete ok 'u' 1 0\ndelete 2 User \"u\" does not exist\n");
}

Test(broker_admin, hashes_of_rabbitmq_log_in)
{
    /* Made by rabbitmqctl: the password of all three is "guest". */
    static const struct {
        const char *hashing;
        const char *hash; /* hex: salt, digest of salt and password */
    } imported[] = {
        {"rabbit_password_hashing_sha256",
         "59D36B8D8A88F546C6603B9135E438780D368C4B1398E909F162E556059F2F43973D5FFB"},
        {"rabbit_password_hashing_sha512",
         "A34071656E2E630EC1D2F571DB3F29A139FC007B52B0071C401C0711D131FDE1EB8881BF60D3AC23525B7B45"
         "0E941BD0AE12B8F1404C8459FC50F71E5452A6AF06ABDA94"},
        {"rabbit_password_hashing_md5", "693BE8C7B777C7E0E819DE4EB1A0ED676124C77E"},
    };
    for (size_t i = 0; i < WR_ARRAY_SIZE(imported); i++) {
        uint8_t bytes[80];
        const size_t size = strlen(imported[i].hash) / 2;
        cr_assert_eq(str_parse_hex(B(imported[i].hash), bytes, size), 0);
        const struct broker_user_change change = {.has_hash = true,
                                                  .hash = bytes_make(bytes, size),
                                                  .hashing =
                                                      broker_hashing_find(B(imported[i].hashing))};
        cr_assert_str_eq(broker_hashing_name(change.hashing), imported[i].hashing);
        CALL(broker_user_put(rig.broker, B("imported"), &change, rig_done, "put"));
        EXPECT_SAID("put ok 'imported' 1 0\n");
        cr_assert(login("imported", "guest"), "%s", imported[i].hashing);
        cr_assert_not(login("imported", "Guest"));
        cr_assert_not(login("imported", ""));
    }
    struct broker_user_change change = {.has_hash = true, .hash = B("abcd"), .hashing = 9};
    CALL(broker_user_put(rig.broker, B("imported"), &change, rig_done, "put"));
    EXPECT_SAID("put 1 unknown password hashing, or no such hash\n");
    change.hashing = CATALOG_HASHING_SHA256; /* salt without a digest, and nothing: no log-in */
    CALL(broker_user_put(rig.broker, B("imported"), &change, rig_done, "put"));
    EXPECT_SAID("put ok 'imported' 1 0\n");
    cr_assert_not(login("imported", "guest") || login("imported", ""));
    change.hash = BYTES_NONE;
    CALL(broker_user_put(rig.broker, B("imported"), &change, rig_done, "put"));
    EXPECT_SAID("put ok 'imported' 1 0\n");
    cr_assert_not(login("imported", "guest") || login("imported", ""));
    cr_assert_eq(broker_hashing_find(B("rabbit_password_hashing_rot13")), 0);
}

Test(broker_admin, authentication_answers_late_when_it_fails)
{
    CALL(broker_user_authenticate(rig.broker, B("guest"), B("guest"), rig_done, "auth"));
    EXPECT_SAID("auth ok 'guest' 0 0\n");
    CALL(broker_user_authenticate(rig.broker, B("guest"), B("bad"), rig_done, "auth"));
    EXPECT_SAID("");
    cr_assert_neq(broker_deadline_ns(rig.broker), UINT64_MAX);
    rig.now_ms += 1000;
    EXPECT_SAID("auth 6 Error: failed to authenticate user \"guest\"\nuser 'guest' - invalid "
                "credentials\n");
}

Test(broker_admin, a_hashed_password_is_salt_and_digest)
{
    uint8_t hash[BROKER_HASH_SIZE];
    broker_hash_password(rig.broker, B("pw"), hash);
    const struct broker_user_change change = {
        .has_hash = true, .hash = bytes_make(hash, sizeof hash), .hashing = CATALOG_HASHING_SHA256};
    CALL(broker_user_add(rig.broker, B("h"), &change, rig_done, "add"));
    EXPECT_SAID("add ok 'h' 1 0\n");
    cr_assert(login("h", "pw"));
}

/* --- vhosts and permissions ------------------------------------------------------------------- */

Test(broker_admin, vhosts)
{
    const struct bytes text = B("d");
    const struct bytes quorum = B("quorum");
    const struct bytes foo = B("foo");
    struct broker_vhost_change change = {.description = &text, .default_queue_type = &quorum};
    CALL(broker_vhost_add(rig.broker, B("v"), &change, rig_done, "add"));
    CALL(broker_vhost_add(rig.broker, B("v"), NULL, rig_done, "again"));
    CALL(broker_vhost_add(rig.broker, B(""), NULL, rig_done, "empty"));
    EXPECT_SAID("add ok 'v' 1 0\nagain ok 'v' 0 0\nempty 1 vhost cannot be an empty string\n");
    const struct catalog_vhost *v = catalog_vhost(rig.broker->view, B("v"));
    cr_assert(bytes_eq_cstr(v->description, "d") && bytes_eq_cstr(v->default_queue_type, "quorum"));
    change = (struct broker_vhost_change){.default_queue_type = &foo};
    CALL(broker_vhost_change(rig.broker, B("v"), &change, rig_done, "type"));
    EXPECT_SAID("type 1 Unsupported default queue type\n");
    change = (struct broker_vhost_change){.description = &foo};
    CALL(broker_vhost_change(rig.broker, B("v"), &change, rig_done, "text"));
    CALL(broker_vhost_change(rig.broker, B("nov"), &change, rig_done, "text"));
    EXPECT_SAID("text ok 'v' 1 0\ntext 3 Virtual host 'nov' does not exist\n");
    v = catalog_vhost(rig.broker->view, B("v"));
    cr_assert(bytes_eq_cstr(v->description, "foo") &&
              bytes_eq_cstr(v->default_queue_type, "quorum"));
    CALL(broker_vhost_delete(rig.broker, B("v"), rig_done, "delete"));
    CALL(broker_vhost_delete(rig.broker, B("v"), rig_done, "delete"));
    EXPECT_SAID("delete ok 'v' 1 0\ndelete 3 Virtual host 'v' does not exist\n");
}

static void say_permission(void *ctx, const struct catalog_permission *p)
{
    strbuf_printf(&rig.said, "%s%.*s %.*s %.*s %.*s %.*s\n", (const char *)ctx, FMT(p->user),
                  FMT(p->vhost), FMT(p->configure), FMT(p->write), FMT(p->read));
}

static void say_topic(void *ctx, const struct catalog_topic_permission *p)
{
    strbuf_printf(&rig.said, "%s%.*s %.*s %.*s %.*s %.*s\n", (const char *)ctx, FMT(p->user),
                  FMT(p->vhost), FMT(p->exchange), FMT(p->write), FMT(p->read));
}

Test(broker_admin, permissions)
{
    struct broker_fault fault = {0};
    const struct bytes user = B("nobody");
    const struct bytes vhost = B("/");
    const struct bytes nowhere = B("nov");
    CALL(broker_permissions_set(rig.broker, user, vhost, B("a"), B("b"), B("c"), rig_done, "set"));
    CALL(broker_permissions_set(rig.broker, B("nou"), vhost, B(""), B(""), B(""), rig_done, "set"));
    CALL(broker_permissions_set(rig.broker, user, nowhere, B(""), B(""), B(""), rig_done, "set"));
    CALL(broker_permissions_set(rig.broker, user, vhost, B("("), B(""), B(""), rig_done, "bad"));
    EXPECT_SAID("set ok 'nobody' 1 0\n"
                "set 2 User \"nou\" does not exist\n"
                "set 3 Virtual host 'nov' does not exist\n"
                "bad 1 invalid regular expression '(': missing closing parenthesis at offset 1\n");
    cr_assert_eq(broker_list_permissions(rig.broker, &user, NULL, say_permission, "", &fault), 0);
    EXPECT_SAID("nobody / a b c\n");
    cr_assert_eq(broker_list_permissions(rig.broker, &user, &nowhere, say_permission, "", &fault),
                 BROKER_ADMIN_NO_VHOST);
    cr_assert_str_eq(fault.text, "Virtual host 'nov' does not exist");
    cr_assert_eq(broker_list_permissions(rig.broker, &nowhere, NULL, say_permission, "", &fault),
                 BROKER_ADMIN_NO_USER);
    cr_assert_str_eq(fault.text, "User \"nov\" does not exist");
    CALL(broker_permissions_clear(rig.broker, user, vhost, rig_done, "clear"));
    CALL(broker_permissions_clear(rig.broker, user, vhost, rig_done, "again"));
    EXPECT_SAID("clear ok 'nobody' 1 0\nagain ok 'nobody' 0 0\n");
    CALL(broker_topic_permissions_set(rig.broker, user, vhost, B("x"), B("w"), B("r"), rig_done,
                                      "topic"));
    CALL(broker_topic_permissions_set(rig.broker, user, vhost, B("x"), B("w"), B("["), rig_done,
                                      "bad"));
    EXPECT_SAID(
        "topic ok 'nobody' 1 0\nbad 1 invalid regular expression '[': missing terminating ] "
        "for character class at offset 1\n");
    cr_assert_eq(broker_list_topic_permissions(rig.broker, NULL, &vhost, say_topic, "", &fault), 0);
    EXPECT_SAID("nobody / x w r\n");
    CALL(broker_topic_permissions_clear(rig.broker, user, vhost, B(""), rig_done, "clear"));
    CALL(broker_topic_permissions_clear(rig.broker, user, vhost, B("y"), rig_done, "none"));
    CALL(broker_topic_permissions_clear(rig.broker, B("nou"), vhost, B("y"), rig_done, "nou"));
    EXPECT_SAID("clear ok 'nobody' 1 0\nnone ok 'nobody' 0 0\nnou 2 User \"nou\" does not exist\n");
}

/* --- policies, limits, parameters ------------------------------------------------------------- */

static void set_policy(const char *name, const char *pattern, int64_t max_length, uint8_t apply_to,
                       bool operator_policy, int64_t priority)
{
    struct writer w;
    writer_init(&w, 32);
    wire_table_put_int64(&w, "max-length", max_length);
    const struct catalog_policy_spec policy = {.vhost = B("/"),
                                               .name = B(name),
                                               .pattern = B(pattern),
                                               .definition = writer_bytes(&w),
                                               .priority = priority,
                                               .apply_to = apply_to,
                                               .operator_policy = operator_policy};
    CALL(broker_policy_set(rig.broker, &policy, rig_done, "set"));
    writer_deinit(&w);
}

static void say_policy(void *ctx, const struct catalog_policy *p)
{
    strbuf_printf(&rig.said, "%s%.*s %.*s %s %lld\n", (const char *)ctx, FMT(p->spec.name),
                  FMT(p->spec.pattern), broker_apply_to_name(p->spec.apply_to),
                  (long long)p->spec.priority);
}

Test(broker_admin, policies)
{
    struct broker_fault fault = {0};
    const struct bytes vhost = B("/");
    rig_queue("q");
    set_policy("p", "^q", 5, CATALOG_APPLY_ALL, false, 0);
    EXPECT_SAID("set ok 'p' 1 0\n");
    cr_assert_eq(catalog_queue(rig.broker->view, B("/"), B("q"))->settings.length_max, 5);
    set_policy("best", "", 4, CATALOG_APPLY_QUEUES, false, 7);
    set_policy("o", "", 3, CATALOG_APPLY_QUEUES, true, 0);
    EXPECT_SAID("set ok 'best' 1 0\nset ok 'o' 1 0\n");
    cr_assert_eq(catalog_queue(rig.broker->view, B("/"), B("q"))->settings.length_max, 3);
    cr_assert_eq(broker_list_policies(rig.broker, &vhost, false, say_policy, "", &fault), 0);
    cr_assert_eq(broker_list_policies(rig.broker, NULL, true, say_policy, "operator ", &fault), 0);
    EXPECT_SAID("best  queues 7\np ^q all 0\noperator o  queues 0\n");
    set_policy("p", "(", 5, CATALOG_APPLY_ALL, false, 0);
    set_policy("p", "", -1, CATALOG_APPLY_ALL, false, 0);
    set_policy("p", "", 1, 77, false, 0);
    EXPECT_SAID(
        "set 1 Validation failed\n\npattern should be regular expression but is invalid: missing "
        "closing parenthesis at offset 1\n"
        "set 1 Validation failed\n\n-1 is not a valid maximum length\n"
        "set 1 Validation failed\n\napply-to 'unknown' unrecognised; should be one of: 'queues', "
        "'classic_queues',  'quorum_queues', 'streams', 'exchanges', or 'all'\n");
    set_policy("ox", "", 1, CATALOG_APPLY_EXCHANGES, true, 0);
    EXPECT_SAID("set ok 'ox' 1 0\n");
    CALL(broker_policy_clear(rig.broker, vhost, B("p"), false, rig_done, "clear"));
    CALL(broker_policy_clear(rig.broker, vhost, B("p"), true, rig_done, "clear"));
    CALL(broker_policy_clear(rig.broker, B("nov"), B("p"), true, rig_done, "clear"));
    EXPECT_SAID("clear ok 'p' 1 0\nclear 4 Parameter does not exist\n"
                "clear 4 Parameter does not exist\n");
    uint8_t apply_to = 9;
    cr_assert(broker_apply_to_find(B("quorum_queues"), &apply_to));
    cr_assert_eq(apply_to, CATALOG_APPLY_QUORUM_QUEUES);
    cr_assert(broker_apply_to_find(B(""), &apply_to) && apply_to == CATALOG_APPLY_ALL);
    cr_assert_not(broker_apply_to_find(B("foo"), &apply_to));
}

static void say_parameter(void *ctx, const struct catalog_parameter *p)
{
    strbuf_printf(&rig.said, "%s%.*s %.*s %zu\n", (const char *)ctx, FMT(p->component),
                  FMT(p->name), p->value.size);
}

Test(broker_admin, limits_and_parameters)
{
    struct broker_fault fault = {0};
    const struct bytes vhost = B("/");
    const struct bytes value = BYTES_LITERAL("t\x01");
    CALL(broker_vhost_limits_set(rig.broker, vhost, &(struct catalog_vhost_limits){-6, 9}, rig_done,
                                 "limits"));
    CALL(broker_vhost_limits_set(rig.broker, B("nov"), &(struct catalog_vhost_limits){1, 1},
                                 rig_done, "limits"));
    CALL(broker_user_limits_set(rig.broker, B("nou"), &(struct catalog_user_limits){1, 1}, rig_done,
                                "user"));
    CALL(broker_user_limits_set(rig.broker, B("guest"), &(struct catalog_user_limits){-1, 8},
                                rig_done, "user"));
    EXPECT_SAID("limits ok '/' 1 0\nlimits 3 Virtual host 'nov' does not exist\n"
                "user 2 User \"nou\" does not exist\nuser ok 'guest' 1 0\n");
    cr_assert_eq(catalog_vhost(rig.broker->view, vhost)->limits.connections_max, -6);
    cr_assert_eq(catalog_vhost(rig.broker->view, vhost)->limits.queues_max, 9);
    cr_assert_eq(catalog_user(rig.broker->view, B("guest"))->limits.channels_max, 8);
    CALL(broker_parameter_set(rig.broker, vhost, B("shovel"), B("s"), value, rig_done, "set"));
    CALL(broker_parameter_set(rig.broker, B(""), B(""), B("g"), value, rig_done, "global"));
    CALL(broker_parameter_set(rig.broker, vhost, B("policy"), B("p"), value, rig_done, "no"));
    EXPECT_SAID("set ok 's' 1 0\nglobal ok 'g' 1 0\n"
                "no 1 policies may not be set using this method\n");
    cr_assert_eq(broker_list_parameters(rig.broker, &vhost, say_parameter, "", &fault), 0);
    cr_assert_eq(broker_list_parameters(rig.broker, NULL, say_parameter, "global", &fault), 0);
    EXPECT_SAID("shovel s 2\nglobal g 2\n");
    CALL(broker_parameter_clear(rig.broker, vhost, B("shovel"), B("s"), rig_done, "clear"));
    CALL(broker_parameter_clear(rig.broker, vhost, B("shovel"), B("s"), rig_done, "clear"));
    EXPECT_SAID("clear ok 's' 1 0\nclear 4 Parameter does not exist\n");
}

Test(broker_admin, without_a_leader_or_with_impossible_values_it_says_so)
{
    rig.no_leader = true;
    add_user("u", "p");
    EXPECT_SAID("add 8 the cluster's catalog cannot be changed: no leader was reached within 15000 "
                "ms\n");
    rig.no_leader = false;
    char name[400];
    memset(name, 'a', sizeof name);
    name[sizeof name - 1] = 0;
    add_user(name, "p");
    EXPECT_SAID("add 1 a name or a value is too long, or empty\n");
    rig.hold = true;
    add_user("u", "p"); /* nobody ever answers */
    rig_turn();
}

Test(broker_admin, an_answer_waits_for_the_view)
{
    rig.hold = true;
    add_user("u", "p");
    struct asked asked = rig.asked.items[0];
    struct catalog_result result;
    vec_remove(&rig.asked, 0);
    cr_assert_eq(catalog_apply_bytes(rig.catalog, ++rig.index,
                                     bytes_make(asked.command->data, asked.command->size), &result),
                 0);
    asked.done(asked.ctx, result.status, &result);
    buf_unref(asked.command);
    EXPECT_SAID("");
    rig_show_view();
    EXPECT_SAID("add ok 'u' 1 0\n");
}

/* --- queues ----------------------------------------------------------------------------------- */

static void purge(const char *queue)
{
    CALL(broker_admin_purge(rig.broker, B("/"), B(queue), rig_done, (void *)"purge"));
}

static void delete_queue(const char *queue, uint32_t flags)
{
    CALL(broker_admin_delete(rig.broker, B("/"), B(queue), flags, rig_done, (void *)"delete"));
}

Test(broker_admin, queues_are_purged)
{
    rig_queue("q");
    purge("q");
    EXPECT_CALLS("q open\nq purge\n");
    rig_reply("q", QUEUE_OK, 7);
    EXPECT_SAID("purge ok 'q' 7 0\n");
    EXPECT_CALLS("q close\n");
}

Test(broker_admin, queues_are_sealed_then_deleted)
{
    rig_queue("q");
    delete_queue("q", BROKER_IF_UNUSED | BROKER_IF_EMPTY);
    EXPECT_CALLS("q open\nq seal flags=12\n");
    rig_reply("q", QUEUE_OK, 3);
    EXPECT_SAID("delete ok 'q' 3 0\n");
    EXPECT_CALLS("propose delete_queue\nq close\n");
    cr_assert(catalog_queue(rig.broker->view, B("/"), B("q")) == NULL);
}

Test(broker_admin, queues_that_may_not_go)
{
    rig_queue("q");
    delete_queue("q", BROKER_IF_UNUSED);
    rig_reply("q", QUEUE_IN_USE, 3);
    EXPECT_SAID("delete 9 Queue is in use\n");
    delete_queue("q", BROKER_IF_EMPTY);
    rig_reply("q", QUEUE_NOT_EMPTY, 3);
    EXPECT_SAID("delete 10 Queue is not empty\n");
    delete_queue("q", 0); /* somebody else deletes it */
    rig_reply("q", QUEUE_SEALED, 3);
    EXPECT_SAID("delete 4 no queue 'q' in vhost '/'\n");
    cr_assert(catalog_queue(rig.broker->view, B("/"), B("q")) != NULL);
}

Test(broker_admin, queues_that_are_not_there_or_go)
{
    purge("none");
    delete_queue("none", 0);
    EXPECT_SAID("purge 4 no queue 'none' in vhost '/'\ndelete 4 no queue 'none' in vhost '/'\n");
    rig_queue("q");
    purge("q");
    rig_delete("q");
    EXPECT_SAID("purge 4 no queue 'q' in vhost '/'\n");
}

Test(broker_admin, queues_without_a_leader)
{
    rig_queue("q");
    purge("q");
    (void)rig_calls();
    rig.now_ms += 15000;
    EXPECT_SAID("purge 8 timed out waiting for queue 'q' in vhost '/': it has no leader\n");
    EXPECT_CALLS("q close\n");
    delete_queue("q", 0);
    rig.no_leader = true;
    rig_reply("q", QUEUE_OK, 0);
    EXPECT_SAID("delete 8 the cluster's catalog cannot be changed: no leader was reached within "
                "15000 ms\n");
}
