/*
 * What: connections and channels counted against the limits of vhosts and users, over the whole
 * cluster. Only what a limit counts takes part: its session has a seat in the catalog
 * (struct catalog_seat), taken by a command, so that the machine decides between nodes that race.
 *
 * Happy path: opening is refused at once when this shard's own sessions reach the limit. Else the
 * seat is proposed, and the front end waits for it (broker_session_wait) before it lets the client
 * go on: the view may be behind, and still have the seat of a connection that has been closed. A
 * session that ends waits, too, until its seat has been given back: whoever heard that it is closed
 * may open the next one, on any node. Failure modes: without a leader both waits end after three
 * seconds, and the limit is kept by what this node sees; the seat is asked for until it is taken,
 * and if it is refused then, the session is closed. So is one that loses a race for the last
 * channel: opening a channel does not wait. A limit that is set later counts what is open, and
 * closes nothing.
 *
 * Invariants: at most one proposal of a seat is under way; a seat outlives its session until the
 * catalog has dropped it, or its boot is over. Threads: the shard's. Spec: docs/access.md,
 * "Limits".
 */
#include "broker_internal.h"
#include "warren/plant.h"

#define SEAT_RETRY_MS 500u

struct seat {
    struct list link; /* broker->seats */
    struct broker *broker;
    struct broker_session *session; /* NULL: closed; the catalog is to drop it */
    struct broker_session *ending;  /* the one that waits until it has; NULL: none does */
    uint64_t connection;
    char vhost[256], user[256];
    bool open;                /* it was open before there was a limit */
    bool taken;               /* the catalog has it, as far as we were told */
    bool pending;             /* a proposal is under way */
    uint64_t index;           /* of the log, at which it was taken; 0: not known */
    uint32_t channels, asked; /* that the catalog counts; that were proposed */
    struct timer retry;
};

struct limits {
    const struct catalog_vhost *vhost;
    const struct catalog_user *user;
};

static struct limits limits_of(const struct broker *broker, struct bytes vhost, struct bytes user)
{
    return broker->view == NULL ? (struct limits){NULL, NULL}
                                : (struct limits){catalog_vhost(broker->view, vhost),
                                                  catalog_user(broker->view, user)};
}

static bool limited(const struct limits *l)
{
    return l->vhost != NULL && l->user != NULL &&
           (l->vhost->limits.connections_max >= 0 || l->user->limits.connections_max >= 0 ||
            l->user->limits.channels_max >= 0);
}

static bool reached(int64_t max, uint64_t count)
{
    return max >= 0 && count >= (uint64_t)max;
}

/* What this shard is taking and its view does not have yet. */
struct extra {
    uint64_t of_vhost, of_user;
    int64_t channels; /* of the user */
};

static uint32_t open_channels(const struct broker_session *session)
{
    uint32_t count = 0;
    LIST_FOREACH(link, &session->channels) {
        count++;
    }
    return count;
}

/* Without `but`, which is asking. */
static struct extra count_extra(const struct broker *broker, struct bytes vhost, struct bytes user,
                                const struct broker_session *but)
{
    struct extra e = {0};
    LIST_FOREACH(link, &broker->seats) {
        const struct seat *s = WR_CONTAINER_OF(link, struct seat, link);
        const struct catalog_seat *known = catalog_seat(broker->view, broker->boot, s->connection);
        const bool same_user = bytes_eq_cstr(user, s->user);
        if (s->session == NULL || s->session == but) {
            continue; /* what has ended counts until the catalog has dropped it */
        }
        if (known == NULL) {
            e.of_vhost += bytes_eq_cstr(vhost, s->vhost);
            e.of_user += same_user;
        }
        if (same_user) {
            e.channels +=
                (int64_t)open_channels(s->session) - (known == NULL ? 0 : (int64_t)known->channels);
        }
    }
    return e;
}

static void vhost_fault(struct broker_fault *fault, const struct catalog_vhost *vhost,
                        struct bytes user)
{
    fault_set(fault, 530, true,
              "access to vhost '%.*s' refused for user '%.*s': connection limit (%lld) is reached",
              FMT(vhost->name), FMT(user), (long long)vhost->limits.connections_max);
}

static void user_fault(struct broker_fault *fault, const struct catalog_user *user)
{
    fault_set(fault, 530, true,
              "connection refused for user '%.*s': user connection limit (%lld) is reached",
              FMT(user->name), (long long)user->limits.connections_max);
}

static void channel_fault(struct broker_fault *fault, const struct catalog_user *user)
{
    fault_set(fault, 530, true,
              "number of channels opened for user '%.*s' has reached the maximum allowed user "
              "limit of (%lld)",
              FMT(user->name), (long long)user->limits.channels_max);
}

static bool check(const struct limits *l, uint64_t of_vhost, uint64_t of_user, struct bytes user,
                  struct broker_fault *fault)
{
    if (reached(l->vhost->limits.connections_max, of_vhost)) {
        vhost_fault(fault, l->vhost, user);
        return false;
    }
    if (reached(l->user->limits.connections_max, of_user)) {
        user_fault(fault, l->user);
        return false;
    }
    return true;
}

bool seat_may_open(struct broker *broker, struct bytes vhost, struct bytes user,
                   struct broker_fault *fault)
{
    const struct limits l = limits_of(broker, vhost, user);
    if (!limited(&l) || wr_planted(WR_PLANT_seats_unlimited)) {
        return true;
    }
    uint64_t of_vhost = 0;
    uint64_t of_user = 0;
    LIST_FOREACH(link, &broker->seats) {
        const struct seat *s = WR_CONTAINER_OF(link, struct seat, link);
        of_vhost += s->session != NULL && bytes_eq_cstr(vhost, s->vhost);
        of_user += s->session != NULL && bytes_eq_cstr(user, s->user);
    }
    return check(&l, of_vhost, of_user, user, fault);
}

/* The same by what this node sees, when nobody can say what is. */
static bool view_allows(const struct broker_session *session, struct broker_fault *fault)
{
    const struct broker *broker = session->broker;
    const struct bytes user = session_user(session);
    const struct limits l = limits_of(broker, session_vhost(session), user);
    if (!limited(&l) || catalog_seat(broker->view, broker->boot, session->id) != NULL) {
        return true;
    }
    const struct extra e = count_extra(broker, session_vhost(session), user, session);
    return check(&l, l.vhost->connection_count + e.of_vhost, l.user->connection_count + e.of_user,
                 user, fault);
}

bool seat_may_open_channel(struct broker_session *session, struct broker_fault *fault)
{
    const struct broker *broker = session->broker;
    const struct limits l = limits_of(broker, session_vhost(session), session_user(session));
    if (l.user == NULL || l.user->limits.channels_max < 0) {
        return true;
    }
    const struct extra e = count_extra(broker, session_vhost(session), session_user(session), NULL);
    if ((int64_t)l.user->channel_count + e.channels < l.user->limits.channels_max) {
        return true;
    }
    channel_fault(fault, l.user);
    return false;
}

/* --- the catalog's side ----------------------------------------------------------------------- */

static void seat_step(struct seat *s);

static void seat_free(struct seat *s)
{
    timer_cancel(&s->broker->timers, &s->retry);
    list_remove(&s->link);
    if (s->session != NULL) {
        s->session->seat = NULL;
    }
    struct broker_session *ending = s->ending;
    wr_free(s);
    if (ending != NULL) {
        session_deleted(ending);
    }
}

void seat_free_all(struct broker *broker)
{
    LIST_FOREACH_SAFE(link, &broker->seats) {
        struct seat *s = WR_CONTAINER_OF(link, struct seat, link);
        s->ending = NULL; /* freed before us */
        seat_free(s);
    }
}

static void on_retry(struct timer *t)
{
    seat_step(WR_CONTAINER_OF(t, struct seat, retry));
}

static void session_ready(struct broker_session *session, const struct broker_fault *fault)
{
    static const struct broker_fault none = {0};
    if (session == NULL || session->on_ready == NULL) {
        return;
    }
    void (*on_ready)(void *ctx, const struct broker_fault *f) = session->on_ready;
    session->on_ready = NULL;
    timer_cancel(&session->broker->timers, &session->ready_timer);
    on_ready(session->ctx, fault == NULL ? &none : fault);
}

static void on_wait_over(struct timer *t)
{
    struct broker_session *session = WR_CONTAINER_OF(t, struct broker_session, ready_timer);
    struct broker_fault fault = {0};
    (void)view_allows(session, &fault);
    session_ready(session, &fault);
}

bool broker_session_wait(struct broker_session *session,
                         void (*on_ready)(void *ctx, const struct broker_fault *fault))
{
    if (session->seat == NULL || session->seat->taken) {
        return false;
    }
    session->on_ready = on_ready;
    timer_add(&session->broker->timers, &session->ready_timer,
              broker_now_ms(session->broker) + SEAT_WAIT_MS, on_wait_over);
    return true;
}

/* Somebody on another node was quicker. */
static void refused(struct seat *s, uint64_t by)
{
    struct broker_session *session = s->session;
    const struct limits l =
        limits_of(s->broker, bytes_from_cstr(s->vhost), bytes_from_cstr(s->user));
    struct broker_fault fault = {0};
    if (session == NULL || l.vhost == NULL || l.user == NULL) {
        return;
    }
    if (by == 1) {
        vhost_fault(&fault, l.vhost, l.user->name);
    } else if (by == 2) {
        user_fault(&fault, l.user);
    } else {
        channel_fault(&fault, l.user);
    }
    if (session->on_ready != NULL) {
        session_ready(session, &fault);
    } else {
        session_force_close(session, fault.text);
    }
}

static void on_put(void *ctx, int status, const struct catalog_result *result)
{
    struct seat *s = ctx;
    s->pending = false;
    if (status == CATALOG_OK) {
        s->taken = result->id != 0;
        s->index = result->index;
        s->channels = s->asked;
        s->open = false;
        struct broker_session *session = s->session; /* the step may free the seat */
        seat_step(s);
        session_ready(session, NULL);
    } else if (status == CATALOG_LIMIT) {
        if (s->session == NULL) {
            seat_step(s);
        } else if (wr_planted(WR_PLANT_seats_unlimited)) {
            session_ready(s->session, NULL);
        } else {
            refused(s, result->id);
        }
    } else if (status < 0) { /* it may have been applied all the same */
        s->taken = true;
        s->index = 0;
        s->channels = UINT32_MAX;
        timer_add(&s->broker->timers, &s->retry, broker_now_ms(s->broker) + SEAT_RETRY_MS,
                  on_retry);
    } else if (s->session == NULL) { /* its boot, vhost or user is gone, and the seat with it */
        seat_free(s);
    } else {
        session_ready(s->session, NULL); /* it will be told to close */
    }
}

static void on_drop(void *ctx, int status, const struct catalog_result *result)
{
    struct seat *s = ctx;
    (void)result;
    s->pending = false;
    if (status < 0) {
        timer_add(&s->broker->timers, &s->retry, broker_now_ms(s->broker) + SEAT_RETRY_MS,
                  on_retry);
    } else {
        seat_free(s);
    }
}

/* Sees to it that the catalog has what there is. */
static void seat_step(struct seat *s)
{
    struct broker *broker = s->broker;
    if (s->pending || timer_is_pending(&s->retry)) {
        return;
    }
    struct catalog_command command = {.kind = CATALOG_DROP_SEAT};
    command.u.seat.boot = broker->boot;
    command.u.seat.connection = s->connection;
    if (s->session == NULL) {
        if (!s->taken) {
            seat_free(s);
            return;
        }
        s->pending = true;
        host_catalog_propose(broker->host, &command, broker->options.operation_timeout_ms, on_drop,
                             s);
        return;
    }
    const struct limits l = limits_of(broker, bytes_from_cstr(s->vhost), bytes_from_cstr(s->user));
    if (!limited(&l)) {
        struct broker_session *session = s->session;
        seat_free(s); /* the machine has dropped it with the limit */
        session_ready(session, NULL);
        return;
    }
    if (s->taken && s->index != 0 && s->index <= broker->view_index &&
        catalog_seat(broker->view, broker->boot, s->connection) == NULL) {
        s->taken = false; /* the limit was gone for a while */
        s->open = true;
    }
    const uint32_t channels = l.user->limits.channels_max >= 0 ? open_channels(s->session) : 0;
    if (s->taken && s->channels == channels) {
        return;
    }
    command.kind = CATALOG_PUT_SEAT;
    command.u.seat.vhost = bytes_from_cstr(s->vhost);
    command.u.seat.user = bytes_from_cstr(s->user);
    command.u.seat.channels = channels;
    command.u.seat.open = s->open;
    s->asked = channels;
    s->pending = true;
    host_catalog_propose(broker->host, &command, broker->options.operation_timeout_ms, on_put, s);
}

void seat_update(struct broker_session *session)
{
    struct broker *broker = session->broker;
    if (session->ending) {
        return;
    }
    if (session->seat == NULL) {
        const struct limits l = limits_of(broker, session_vhost(session), session_user(session));
        if (!limited(&l)) {
            return;
        }
        struct seat *s = wr_calloc(1, sizeof *s);
        s->broker = broker;
        s->session = session;
        s->connection = session->id;
        memcpy(s->vhost, session->vhost, sizeof s->vhost);
        memcpy(s->user, session->user, sizeof s->user);
        s->open = session->opened; /* else it was checked a moment ago */
        timer_init(&s->retry);
        list_push_back(&broker->seats, &s->link);
        session->seat = s;
    }
    seat_step(session->seat);
}

bool seat_end(struct broker_session *session)
{
    struct seat *s = session->seat;
    session->ending = true;
    session->seat = NULL;
    if (s == NULL) {
        return false;
    }
    s->session = NULL;
    if (wr_planted(WR_PLANT_seat_kept)) {
        return false;
    }
    const bool waits = s->taken || s->pending || timer_is_pending(&s->retry);
    if (waits) {
        s->ending = session;
        session->deletions++;
    }
    seat_step(s);
    return waits;
}
