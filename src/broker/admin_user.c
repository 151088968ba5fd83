/*
 * What: users, their passwords and limits of who administers; and all lists (broker_admin.h).
 *
 * Passwords are hashed as RabbitMQ does: four random bytes of salt, then the digest of salt and
 * password. An empty password, and an empty hash, mean that the user cannot log in by password.
 * Threads: the shard's. Spec: docs/access.md.
 */
#include "admin.h"

#define REFUSED_MS 1000u /* how long a wrong password waits for its answer */

static const struct {
    uint8_t hashing;
    const char *name;
} hashings[] = {
    {CATALOG_HASHING_SHA256, "rabbit_password_hashing_sha256"},
    {CATALOG_HASHING_SHA512, "rabbit_password_hashing_sha512"},
    {CATALOG_HASHING_MD5, "rabbit_password_hashing_md5"},
};

const char *broker_hashing_name(uint8_t hashing)
{
    for (size_t i = 0; i < WR_ARRAY_SIZE(hashings); i++) {
        if (hashings[i].hashing == hashing) {
            return hashings[i].name;
        }
    }
    return NULL;
}

uint8_t broker_hashing_find(struct bytes name)
{
    for (size_t i = 0; i < WR_ARRAY_SIZE(hashings); i++) {
        if (bytes_eq_cstr(name, hashings[i].name)) {
            return hashings[i].hashing;
        }
    }
    return 0;
}

void broker_hash_password(struct broker *broker, struct bytes password,
                          uint8_t ret_hash[BROKER_HASH_SIZE])
{
    broker->env->ops->random_secret(broker->env, ret_hash, 4);
    auth_digest(CATALOG_HASHING_SHA256, ret_hash, password, ret_hash + 4);
}

static void propose_user(struct admin_call *call, const struct broker_user_change *change,
                         uint8_t parts)
{
    uint8_t hash[BROKER_HASH_SIZE];
    struct catalog_command command = {.kind = CATALOG_PUT_USER};
    struct catalog_user_spec *spec = &command.u.user;
    spec->name = call->user;
    spec->parts = parts;
    if (change->has_hash) {
        spec->hashing = change->hashing;
        spec->password_hash = change->hash;
    } else if (change->has_password) {
        spec->hashing = CATALOG_HASHING_SHA256;
        if (change->password.size > 0) {
            broker_hash_password(call->broker, change->password, hash);
            spec->password_hash = bytes_make(hash, sizeof hash);
        }
    }
    if (change->has_hash || change->has_password) {
        spec->parts |= CATALOG_USER_PASSWORD;
    }
    if (change->tags != NULL) {
        spec->tags = *change->tags;
        spec->parts |= CATALOG_USER_TAGS;
    }
    admin_propose(call, &command);
}

static void change_user(struct broker *broker, struct bytes name,
                        const struct broker_user_change *change, uint8_t parts, broker_done_fn done,
                        void *ctx)
{
    struct admin_call *call = admin_new(broker, done, ctx, name, BYTES_NONE, name);
    if (name.size == 0) {
        admin_fail(call, BROKER_ADMIN_INVALID, "user cannot be an empty string");
    } else if (change->has_hash && (broker_hashing_name(change->hashing) == NULL ||
                                    change->hash.size > CATALOG_NAME_MAX)) {
        admin_fail(call, BROKER_ADMIN_INVALID, "unknown password hashing, or no such hash");
    } else if (change->tags != NULL && change->tags->count > CATALOG_TAGS_MAX) {
        admin_fail(call, BROKER_ADMIN_INVALID, "too many tags");
    } else {
        propose_user(call, change, parts);
    }
}

void broker_user_add(struct broker *broker, struct bytes name,
                     const struct broker_user_change *change, broker_done_fn done, void *ctx)
{
    change_user(broker, name, change, CATALOG_USER_CREATE, done, ctx);
}

void broker_user_change(struct broker *broker, struct bytes name,
                        const struct broker_user_change *change, broker_done_fn done, void *ctx)
{
    change_user(broker, name, change, 0, done, ctx);
}

void broker_user_put(struct broker *broker, struct bytes name,
                     const struct broker_user_change *change, broker_done_fn done, void *ctx)
{
    change_user(broker, name, change, CATALOG_USER_UPSERT, done, ctx);
}

void broker_user_delete(struct broker *broker, struct bytes name, broker_done_fn done, void *ctx)
{
    struct admin_call *call = admin_new(broker, done, ctx, name, BYTES_NONE, name);
    struct catalog_command command = {.kind = CATALOG_DELETE_USER};
    command.u.delete_user.name = name;
    call->user_missing = true;
    admin_propose(call, &command);
}

static void on_refused(struct timer *t)
{
    struct admin_call *call = WR_CONTAINER_OF(t, struct admin_call, delay);
    admin_fail(call, BROKER_ADMIN_REFUSED,
               "Error: failed to authenticate user \"%.*s\"\nuser '%.*s' - invalid credentials",
               FMT(call->user), FMT(call->user));
}

void broker_user_authenticate(struct broker *broker, struct bytes name, struct bytes password,
                              broker_done_fn done, void *ctx)
{
    struct admin_call *call = admin_new(broker, done, ctx, name, BYTES_NONE, name);
    if (auth_password(broker, name, password)) {
        admin_answer(call);
        return;
    }
    char shown[300];
    struct strbuf s;
    strbuf_init(&s, shown, sizeof shown);
    strbuf_add_line(&s, name);
    wr_log(broker->logger, LOG_LEVEL_WARNING, "auth", "authenticate_user: user '%s' was refused",
           shown);
    timer_add(&broker->timers, &call->delay, broker_now_ms(broker) + REFUSED_MS, on_refused);
}

/* --- lists ------------------------------------------------------------------------------------ */

static uint16_t refuse(struct broker_fault *fault, enum broker_admin_fault code, const char *fmt,
                       struct bytes name)
{
    fault->code = (uint16_t)code;
    struct strbuf s;
    strbuf_init(&s, fault->text, sizeof fault->text);
    const char *at = strchr(fmt, '%');
    strbuf_add(&s, fmt, (size_t)(at - fmt));
    strbuf_add(&s, name.data, name.size);
    strbuf_add_cstr(&s, at + 1);
    return fault->code;
}

/* The user and the vhost that a list is limited to exist. */
static bool scope_ok(const struct broker *broker, const struct bytes *user,
                     const struct bytes *vhost, struct broker_fault *fault)
{
    fault->code = 0;
    if (broker->view == NULL) {
        (void)refuse(fault, BROKER_ADMIN_UNAVAILABLE, "the catalog is not known yet%", BYTES_NONE);
    } else if (user != NULL && catalog_user(broker->view, *user) == NULL) {
        (void)refuse(fault, BROKER_ADMIN_NO_USER, "User \"%\" does not exist", *user);
    } else if (vhost != NULL && catalog_vhost(broker->view, *vhost) == NULL) {
        (void)refuse(fault, BROKER_ADMIN_NO_VHOST, "Virtual host '%' does not exist", *vhost);
    }
    return fault->code == 0;
}

/* `only` NULL: all are. */
static bool is_meant(const struct bytes *only, struct bytes name)
{
    return only == NULL || bytes_eq(*only, name);
}

static const struct catalog_user *next_user(struct catalog_iter *users, const struct bytes *only)
{
    const struct catalog_user *user;
    do {
        user = catalog_iter_next(users);
    } while (user != NULL && !is_meant(only, user->name));
    return user;
}

void broker_list_users(struct broker *broker,
                       void (*fn)(void *ctx, const struct catalog_user *user), void *ctx)
{
    if (broker->view == NULL) {
        return;
    }
    struct catalog_iter it;
    catalog_iter_users(&it, broker->view);
    for (const struct catalog_user *user; (user = catalog_iter_next(&it)) != NULL;) {
        fn(ctx, user);
    }
}

void broker_list_vhosts(struct broker *broker,
                        void (*fn)(void *ctx, const struct catalog_vhost *vhost), void *ctx)
{
    if (broker->view == NULL) {
        return;
    }
    struct catalog_iter it;
    catalog_iter_vhosts(&it, broker->view);
    for (const struct catalog_vhost *vhost; (vhost = catalog_iter_next(&it)) != NULL;) {
        fn(ctx, vhost);
    }
}

uint16_t broker_list_permissions(struct broker *broker, const struct bytes *user,
                                 const struct bytes *vhost,
                                 void (*fn)(void *ctx, const struct catalog_permission *permission),
                                 void *ctx, struct broker_fault *fault)
{
    if (!scope_ok(broker, user, vhost, fault)) {
        return fault->code;
    }
    struct catalog_iter users;
    catalog_iter_users(&users, broker->view);
    for (const struct catalog_user *u; (u = next_user(&users, user)) != NULL;) {
        struct catalog_iter it;
        catalog_iter_permissions_of(&it, u);
        for (const struct catalog_permission *p; (p = catalog_iter_next(&it)) != NULL;) {
            if (is_meant(vhost, p->vhost)) {
                fn(ctx, p);
            }
        }
    }
    return 0;
}

uint16_t broker_list_topic_permissions(
    struct broker *broker, const struct bytes *user, const struct bytes *vhost,
    void (*fn)(void *ctx, const struct catalog_topic_permission *permission), void *ctx,
    struct broker_fault *fault)
{
    if (!scope_ok(broker, user, vhost, fault)) {
        return fault->code;
    }
    struct catalog_iter users;
    catalog_iter_users(&users, broker->view);
    for (const struct catalog_user *u; (u = next_user(&users, user)) != NULL;) {
        struct catalog_iter it;
        catalog_iter_topic_permissions_of(&it, u);
        for (const struct catalog_topic_permission *p; (p = catalog_iter_next(&it)) != NULL;) {
            if (is_meant(vhost, p->vhost)) {
                fn(ctx, p);
            }
        }
    }
    return 0;
}

uint16_t broker_list_policies(struct broker *broker, const struct bytes *vhost,
                              bool operator_policy,
                              void (*fn)(void *ctx, const struct catalog_policy *policy), void *ctx,
                              struct broker_fault *fault)
{
    if (!scope_ok(broker, NULL, vhost, fault)) {
        return fault->code;
    }
    struct catalog_iter it;
    catalog_iter_vhosts(&it, broker->view);
    for (const struct catalog_vhost *v; (v = catalog_iter_next(&it)) != NULL;) {
        const struct catalog_ranking *ranking = operator_policy ? v->operator_ranking : v->ranking;
        if (!is_meant(vhost, v->name)) {
            continue;
        }
        for (uint32_t i = 0; ranking != NULL && i < ranking->count; i++) {
            fn(ctx, ranking->items[i]);
        }
    }
    return 0;
}

uint16_t broker_list_parameters(struct broker *broker, const struct bytes *vhost,
                                void (*fn)(void *ctx, const struct catalog_parameter *parameter),
                                void *ctx, struct broker_fault *fault)
{
    if (!scope_ok(broker, NULL, vhost, fault)) {
        return fault->code;
    }
    struct catalog_iter it;
    catalog_iter_parameters(&it, broker->view,
                            vhost == NULL ? NULL : catalog_vhost(broker->view, *vhost));
    for (const struct catalog_parameter *p; (p = catalog_iter_next(&it)) != NULL;) {
        fn(ctx, p);
    }
    return 0;
}
