/*
 * What: what a serving home does by itself: it tells the machine the time when the machine wants to
 * hear it, brings its configuration in line with the catalog's record, and says that dead letters
 * wait for somebody.
 * Happy path: queue_deadline_ms -> timer -> EXPIRE; a view changed, or the home begins to serve ->
 * the wanted configuration differs from the machine's -> CONFIG.
 * Failure modes: clocks of nodes differ and jump: a queue's time runs on from the highest that was
 * heard, at the speed of the monotonic clock, and never falls. An op that was proposed and is not
 * applied yet is not proposed again; with the leadership it is forgotten, and the next leader looks
 * for itself.
 * Invariants
 * I1  At most one EXPIRE of a home is under way, and none while the machine's wish is to come.
 * I2  A CONFIG is proposed only when it changes something: compared with the last one under way.
 * I3  A home that does not serve has no timer here.
 * Ownership: the timers are in the home. Threads: the host's shard. Spec: docs/replica.md, "Time",
 * "Configuration", "Dead letters".
 */
#include "warren/catalog_settings.h"

#include "home.h"
#include "host_internal.h"

#define LOOK_MS          60000u /* the wall clock may have jumped: looked at again at the latest */
#define DEAD_AGAIN_MS    1000u
#define CONFIGS_PER_TURN 64u

/* --- time ------------------------------------------------------------------------------------ */

/* The monotonic clock, read anew: with the turn's time, which is older than what was heard by as
 * much as the turn has taken, that much would be counted twice. */
static uint64_t mono_now_ns(const struct home *home)
{
    return home->host->env->ops->mono_now_ns(home->host->env);
}

/* The time, as far as what was heard tells. */
static uint64_t heard_time(const struct home *home, uint64_t mono_ns)
{
    return home->time_ms == 0 ? 0 : home->time_ms + (mono_ns - home->time_at_ns) / 1000000;
}

static uint64_t hear(struct home *home, uint64_t time_ms)
{
    const uint64_t mono_ns = mono_now_ns(home); /* the later one: a pause puts nobody ahead */
    const uint64_t heard = heard_time(home, mono_ns);
    if (time_ms <= heard) {
        return heard;
    }
    home->time_ms = time_ms;
    home->time_at_ns = mono_ns;
    return time_ms;
}

void home_heard_time(struct home *home, uint64_t time_ms)
{
    (void)hear(home, time_ms);
}

uint64_t home_time(struct home *home)
{
    return hear(home, home->host->env->ops->wall_ms(home->host->env));
}

static void on_expire(struct timer *timer)
{
    struct home *home = WR_CONTAINER_OF(timer, struct home, expire);
    const struct queue_op op = {.kind = QUEUE_OP_EXPIRE};
    WR_ASSERT(home->serving); /* I3 */
    if (queue_deadline_ms(home->queue) > home_time(home)) {
        home_arm_expire(home); /* the wish has changed, or the clock */
        return;
    }
    home->expire_asked = true;
    home_host_op(home, &op);
}

/* The machine's wish to be told the time. A wish that moves away, as it does with each message that
 * is settled, moves no timer: the timer finds out when it fires. */
void home_arm_expire(struct home *home)
{
    const uint64_t wish = queue_deadline_ms(home->queue);
    if (WR_LIKELY(wish == UINT64_MAX) || home->expire_asked) {
        return;
    }
    const uint64_t now = home_time(home);
    uint64_t wait = wish > now ? wish - now : 1;
    wait = wait < LOOK_MS ? wait : LOOK_MS;
    const uint64_t at = home->host->now_ms + wait;
    if (!timer_is_pending(&home->expire) || home->expire.deadline_ms > at) {
        timer_add(&home->host->timers, &home->expire, at, on_expire);
    }
}

/* --- configuration --------------------------------------------------------------------------- */

static bool configs_equal(const struct queue_config *a, const struct queue_config *b)
{
    return a->auto_delete == b->auto_delete &&
           a->single_active_consumer == b->single_active_consumer &&
           a->active_stays == b->active_stays && a->dead_letter == b->dead_letter &&
           a->priority_max == b->priority_max && a->overflow == b->overflow &&
           a->ttl_ms == b->ttl_ms && a->length_max == b->length_max &&
           a->bytes_max == b->bytes_max && a->expires_ms == b->expires_ms &&
           a->dedup_window_ms == b->dedup_window_ms && a->delivery_limit == b->delivery_limit;
}

/* What the machine will have once all that is under way is applied. */
static struct queue_config config_to_be(const struct home *home)
{
    struct queue_config now = home->config_asked;
    if (home->configs_asked == 0) {
        queue_get_config(home->queue, &now);
    }
    return now;
}

static void check_config(struct home *home)
{
    const struct host *host = home->host;
    const struct catalog_queue *record =
        host->view != NULL ? catalog_queue_by_id(host->view, home->id) : NULL;
    const struct queue_config to_be = config_to_be(home);
    struct queue_config want;
    if (record == NULL) {
        return;
    }
    queue_settings_config(record, &want);
    want.auto_delete = to_be.auto_delete;
    want.single_active_consumer = to_be.single_active_consumer;
    want.active_stays = to_be.active_stays;
    want.priority_max = to_be.priority_max;
    if (configs_equal(&to_be, &want)) {
        return;
    }
    struct buf *encoded = buf_new(64);
    queue_config_encode(&encoded, &want);
    const struct queue_op op = {.kind = QUEUE_OP_CONFIG,
                                .args = bytes_make(encoded->data, encoded->size)};
    home->config_asked = want;
    home->configs_asked++;
    home_host_op(home, &op);
    buf_unref(encoded);
}

void home_config_due(struct home *home)
{
    if (home->serving && !home->config_due) {
        home->config_due = true;
        vec_push(&home->host->configs_due, home->id);
    }
}

/* A policy may change ten thousand queues at once: some in each turn. */
void configs_turn(struct host *host)
{
    size_t done = 0;
    for (; done < host->configs_due.count && done < CONFIGS_PER_TURN; done++) {
        struct home *home = home_find(host, host->configs_due.items[done]);
        if (home != NULL && home->config_due) {
            home->config_due = false;
            if (home->serving) {
                check_config(home);
            }
        }
    }
    if (done == 0) {
        return;
    }
    host->configs_due.count -= done;
    memmove(host->configs_due.items, host->configs_due.items + done,
            host->configs_due.count * sizeof *host->configs_due.items);
    host_mark_now(host);
}

/* --- dead letters ---------------------------------------------------------------------------- */

static void on_dead_again(struct timer *timer)
{
    struct home *home = WR_CONTAINER_OF(timer, struct home, dead_again);
    home_tell_dead(home);
}

void home_tell_dead(struct home *home)
{
    struct host *host = home->host;
    if (!home->serving || timer_is_pending(&home->dead_again) || !queue_dead_due(home->queue) ||
        host->sink.on_queue_dead == NULL ||
        host->boot == 0) { /* without one nobody can take them */
        return;
    }
    timer_add(&host->timers, &home->dead_again, host->now_ms + DEAD_AGAIN_MS, on_dead_again);
    host->sink.on_queue_dead(host->sink.ctx, home->id);
}

void home_booted(struct home *home)
{
    struct host *host = home->host;
    if (home->serving && !timer_is_pending(&home->dead_again)) {
        timer_add(&host->timers, &home->dead_again, host->now_ms, on_dead_again);
    }
}

/* --- begin and end --------------------------------------------------------------------------- */

/* Before any op of a client: what is published now is under the record's rules. */
void home_upkeep_begin(struct home *home)
{
    const struct queue_op renew = {.kind = QUEUE_OP_RENEW};
    WR_ASSERT(home->serving);
    home_heard_time(home, queue_clock_ms(home->queue)); /* its entries may be in a snapshot */
    if (config_to_be(home).expires_ms != UINT64_MAX) {
        home_host_op(home, &renew); /* before anything else tells it the time */
    }
    ahead_recovered(home);
    check_config(home);
    home_arm_expire(home);
    home_tell_dead(home);
}

void home_upkeep_end(struct home *home)
{
    timer_cancel(&home->host->timers, &home->expire);
    timer_cancel(&home->host->timers, &home->dead_again);
    home->expire_asked = false;
    home->configs_asked = 0;
}

/* Of a batch of the host's own ops that was applied. */
void home_upkeep_applied(struct home *home, const struct queue_batch *batch)
{
    for (uint32_t i = 0; i < batch->count; i++) {
        if (batch->ops[i].kind == QUEUE_OP_EXPIRE) {
            home->expire_asked = false;
        } else if (batch->ops[i].kind == QUEUE_OP_CONFIG && home->configs_asked > 0) {
            home->configs_asked--;
        }
    }
}
