/*
 * What: authentication by password and permissions by regular expression, in RabbitMQ's terms.
 *
 * Passwords: SHA-256 over salt and password, compared in constant time; an unknown user costs the
 * same as a known one. Permissions: unanchored patterns with limits (warren/pattern.h); an empty
 * one matches nothing; the default exchange is matched as "amq.default".
 *
 * Checks of publishes are cached per channel (publish.c) for as long as the view stays the same, so
 * matching here is not on the hot path.
 */
#include <stdio.h>

#include "broker_internal.h"

static bool password_matches(const struct catalog_user *user, struct bytes password)
{
    static const uint8_t nobody[4 + 32] = {0};
    bool known = user != NULL && user->password_hash.size == sizeof nobody &&
                 user->hashing == CATALOG_HASHING_SHA256;
    const uint8_t *hash = known ? user->password_hash.data : nobody;
    uint8_t digest[32];
    struct buf *salted = buf_new(4 + password.size + 1);
    buf_append(&salted, hash, 4);
    buf_append(&salted, password.data, password.size);
    crypto_sha256(salted->data, salted->size, digest);
    memset(salted->data, 0, salted->size);
    buf_unref(salted);
    bool equal = crypto_equal(digest, hash + 4, sizeof digest);
    return known && equal;
}

bool broker_authenticate(struct broker *broker, struct bytes user, struct bytes password,
                         bool loopback)
{
    if (broker->view == NULL) {
        return false;
    }
    const struct catalog_user *found =
        user.size <= NAME_MAX_SIZE ? catalog_user(broker->view, user) : NULL;
    bool ok = password_matches(found, password);
    if (ok && broker->options.guest_loopback_only && !loopback && bytes_eq_cstr(user, "guest")) {
        wr_log(broker->logger, LOG_LEVEL_WARNING, "auth",
               "user 'guest' can only connect via localhost");
        return false;
    }
    return ok;
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
