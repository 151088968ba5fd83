/*
 * What: authentication by password and permissions by regular expression, in RabbitMQ's terms.
 *
 * Passwords: a digest of salt and password, compared in constant time; an unknown user costs the
 * same as a known one. SHA-256 is what is made here; SHA-512 and MD5 come with imported users.
 * Permissions: unanchored patterns with limits (warren/pattern.h); an empty one matches nothing;
 * the default exchange is matched as "amq.default".
 *
 * Checks of publishes are cached per channel (publish.c) for as long as the view stays the same, so
 * matching here is not on the hot path.
 */
#include <stdio.h>

#include "broker_internal.h"

#define SALT_SIZE       4u
#define DIGEST_SIZE_MAX 64u

/* Of what the user has; 0: a hashing that nobody knows. */
static size_t digest_size(uint8_t hashing)
{
    switch (hashing) {
    case CATALOG_HASHING_SHA256:
        return 32;
    case CATALOG_HASHING_SHA512:
        return 64;
    case CATALOG_HASHING_MD5:
        return 16;
    default:
        return 0;
    }
}

bool auth_digest(uint8_t hashing, const uint8_t *salt, struct bytes password, uint8_t *ret_digest)
{
    bool ok = true;
    struct buf *salted = buf_new((uint32_t)(SALT_SIZE + password.size + 1));
    buf_append(&salted, salt, SALT_SIZE);
    buf_append(&salted, password.data, password.size);
    if (hashing == CATALOG_HASHING_SHA512) {
        crypto_sha512(salted->data, salted->size, ret_digest);
    } else if (hashing == CATALOG_HASHING_MD5) {
        ok = crypto_md5(salted->data, salted->size, ret_digest);
    } else {
        crypto_sha256(salted->data, salted->size, ret_digest);
    }
    memset(salted->data, 0, salted->size);
    buf_unref(salted);
    return ok;
}

static bool password_matches(const struct catalog_user *user, struct bytes password)
{
    static const uint8_t nobody[SALT_SIZE + DIGEST_SIZE_MAX] = {0};
    const size_t size = user == NULL ? 0 : digest_size(user->hashing);
    bool known = size > 0 && user->password_hash.size == SALT_SIZE + size;
    const uint8_t *hash = known ? user->password_hash.data : nobody;
    uint8_t digest[DIGEST_SIZE_MAX];
    if (!auth_digest(known ? user->hashing : CATALOG_HASHING_SHA256, hash, password, digest)) {
        return false;
    }
    bool equal = crypto_equal(digest, hash + SALT_SIZE, known ? size : 32);
    return known && equal && password.size > 0;
}

bool auth_password(struct broker *broker, struct bytes user, struct bytes password)
{
    return broker->view != NULL &&
           password_matches(user.size <= NAME_MAX_SIZE ? catalog_user(broker->view, user) : NULL,
                            password);
}

static bool may_come_from_there(const struct broker *broker, struct bytes user, bool loopback)
{
    if (broker->options.guest_loopback_only && !loopback && bytes_eq_cstr(user, "guest")) {
        wr_log(broker->logger, LOG_LEVEL_WARNING, "auth",
               "user 'guest' can only connect via localhost");
        return false;
    }
    return true;
}

bool broker_authenticate(struct broker *broker, struct bytes user, struct bytes password,
                         bool loopback)
{
    return auth_password(broker, user, password) && may_come_from_there(broker, user, loopback);
}

bool broker_authenticate_external(struct broker *broker, struct bytes user, bool loopback)
{
    return broker->view != NULL && user.size <= NAME_MAX_SIZE &&
           catalog_user(broker->view, user) != NULL && may_come_from_there(broker, user, loopback);
}

bool auth_check(struct broker_session *session, enum permission permission, const char *kind,
                struct bytes name, struct broker_fault *fault)
{
    static const char *const words[] = {"configure", "write", "read"};
    const struct catalog_permission *p =
        catalog_permission(session->broker->view, session_user(session), session_vhost(session));
    struct bytes subject =
        name.size == 0 && strcmp(kind, "exchange") == 0 ? bytes_from_cstr("amq.default") : name;
    bool ok = false;
    if (p != NULL) {
        struct bytes pattern = permission == PERMISSION_CONFIGURE ? p->configure
                               : permission == PERMISSION_WRITE   ? p->write
                                                                  : p->read;
        ok = pattern_cache_matches(&session->broker->patterns, pattern, subject);
    }
    if (!ok) {
        fault_set(fault, 403, false, "%s access to %s '%.*s' in vhost '%s' refused for user '%s'",
                  words[permission], kind, FMT(subject), session->vhost, session->user);
    }
    return ok;
}

/* Every {name} becomes the value. */
static void expand(struct writer *out, struct bytes pattern, const char *name, struct bytes value)
{
    const size_t size = strlen(name);
    for (size_t i = 0; i < pattern.size;) {
        if (pattern.size - i >= size && memcmp(pattern.data + i, name, size) == 0) {
            put_view(out, value);
            i += size;
        } else {
            put_u8(out, pattern.data[i++]);
        }
    }
}

bool auth_check_topic(struct broker_session *session, enum permission permission,
                      const struct catalog_exchange *exchange, struct bytes key,
                      struct broker_fault *fault)
{
    if (!bytes_eq_cstr(exchange->type, "topic")) {
        return true;
    }
    const struct catalog_topic_permission *p = catalog_topic_permission(
        session->broker->view, session_user(session), session_vhost(session), exchange->name);
    if (p == NULL) {
        return true; /* no rule: allowed */
    }
    const bool write = permission == PERMISSION_WRITE;
    struct writer user;
    struct writer both;
    writer_init(&user, 128);
    writer_init(&both, 128);
    expand(&user, write ? p->write : p->read, "{username}", session_user(session));
    expand(&both, writer_bytes(&user), "{vhost}", session_vhost(session));
    const bool ok = pattern_cache_matches(&session->broker->patterns, writer_bytes(&both), key);
    writer_deinit(&both);
    writer_deinit(&user);
    if (!ok) {
        fault_set(fault, 403, false,
                  "%s access to topic '%.*s' in exchange '%.*s' in vhost '%s' refused for user "
                  "'%s'",
                  write ? "write" : "read", FMT(key), FMT(exchange->name), session->vhost,
                  session->user);
    }
    return ok;
}

bool owner_check(const struct broker_session *session, const struct catalog_queue *queue,
                 struct broker_fault *fault)
{
    const struct catalog_queue_spec *spec = &queue->spec;
    if (!spec->exclusive ||
        (spec->owner.boot == session->broker->boot && spec->owner.connection == session->id)) {
        return true;
    }
    fault_set(fault, 405, false,
              "cannot obtain exclusive access to locked queue '%.*s' in vhost '%.*s'. It could be "
              "originally declared on another connection or "
              "the exclusive property value does not match that of the original declaration.",
              FMT(spec->name), FMT(spec->vhost));
    return false;
}
