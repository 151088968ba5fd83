/*
 * What: this node's alarms, and those of all nodes together, for the brokers (docs/flow.md).
 *
 * Happy path: shard 0 looks at the resident memory every memory_monitor_interval and tells the
 * other shards when it rises above the watermark or falls below it; the disk's state comes from the
 * log (the host knows); other nodes' alarms come with their pongs.
 *
 * What the allocator keeps counts as resident though nobody uses it: near the watermark, and as
 * long as the alarm is on, it is told to give back what it can; elsewhere when most is free. That
 * takes as long as there is free memory and is done on another thread.
 *
 * Failure modes: where memory cannot be measured it is not watched. Threads: the shard's.
 */
#include <inttypes.h>

#include "warren/err.h"
#include "warren/mem.h"
#include "warren/plant.h"

#include "node_internal.h"

#define TRIM_TOKEN UINT64_C(0x414c524d)
#define IDLE_TOKEN (TRIM_TOKEN + 1)
/* What nobody uses is given back far from the watermark, too, when it is so much, and half of all:
 * asked so often; not again so soon after it was done, and later still if it was no use. */
#define IDLE_LEAST  (UINT64_C(64) << 20)
#define IDLE_GAIN   (UINT64_C(16) << 20)
#define IDLE_ASK_S  10u
#define IDLE_S      60u
#define IDLE_VAIN_S 300u
#define MIB(bytes)  ((bytes) >> 20)

uint64_t alarm_part_of(uint64_t total, uint32_t millionths)
{
    return total / 1000000 * millionths + total % 1000000 * millionths / 1000000;
}

static uint64_t limit_of(uint32_t relative_ppm, uint64_t absolute, uint64_t total)
{
    if (absolute != CONFIG_NOT_GIVEN) {
        return absolute;
    }
    return alarm_part_of(total, relative_ppm);
}

bool alarm_limit(struct env *env, const struct config *config, struct alarm_memory *ret_memory)
{
    struct alarm_memory memory = {.total = config->memory_total};
    if (env->ops->memory_used(env, &memory.used) != 0 ||
        (memory.total == 0 && env->ops->memory_total(env, &memory.total) != 0)) {
        return false;
    }
    memory.limit = limit_of(config->memory_relative_ppm, config->memory_absolute, memory.total);
    *ret_memory = memory;
    return true;
}

void alarm_init(struct shard *shard)
{
    struct alarm_memory *m = &shard->alarm.memory;
    const struct config *config = shard->config;
    shard->settings = (struct settings){.memory_relative_ppm = config->memory_relative_ppm,
                                        .memory_absolute = config->memory_absolute,
                                        .disk_free_limit = config->disk_free_limit,
                                        .log_level = config->log_level};
    if (alarm_limit(shard->env, shard->config, m)) {
        shard->alarm.next_ns = shard->env->ops->mono_ns(shard->env);
        wr_log(shard->logger, LOG_LEVEL_INFO, "memory",
               "high watermark %" PRIu64 " MiB (of %" PRIu64 " MiB), used %" PRIu64 " MiB",
               MIB(m->limit), MIB(m->total), MIB(m->used));
    }
}

uint32_t alarm_own(const struct shard *shard)
{
    return (host_disk_is_low(shard->host) ? (uint32_t)BROKER_ALARM_DISK : 0) |
           (shard->alarm.memory_high ? (uint32_t)BROKER_ALARM_MEMORY : 0);
}

struct alarm_memory alarm_memory(const struct shard *shard)
{
    return shard->alarm.memory;
}

static void alarm_mail_destroy(struct mail *mail)
{
    wr_free(mail);
}

static void set_memory_high(struct shard *shard, bool high)
{
    const struct alarm_memory *m = &shard->alarm.memory;
    if (shard->alarm.memory_high == high) {
        return;
    }
    shard->alarm.memory_high = high;
    if (high) {
        wr_log(
            shard->logger, LOG_LEVEL_WARNING, "memory",
            "memory alarm: %" PRIu64 " MiB used, the high watermark is %" PRIu64
            " MiB; publishers on all nodes are held back until less is used: let consumers catch "
            "up, close idle connections, or raise vm_memory_high_watermark",
            MIB(m->used), MIB(m->limit));
    } else {
        wr_log(shard->logger, LOG_LEVEL_INFO, "memory",
               "memory alarm cleared: %" PRIu64 " MiB used, the high watermark is %" PRIu64 " MiB",
               MIB(m->used), MIB(m->limit));
    }
    for (uint32_t i = 1; i < shard->count && (high || !wr_planted(WR_PLANT_alarm_sticks)); i++) {
        struct node_mail_value *mail = node_mail_new(NODE_MAIL_ALARM, high, NULL);
        mail->mail.destroy = alarm_mail_destroy;
        shard->env->ops->post(shard->env, i, &mail->mail);
    }
}

static bool measure(struct shard *shard)
{
    struct alarm_memory *m = &shard->alarm.memory;
    if (shard->env->ops->memory_used(shard->env, &m->used) != 0) {
        return false; /* looked at again at the next interval */
    }
    return true;
}

/* Worth it near the watermark, but not again and again for the same memory; the alarm, however,
 * must go when it can. */
static bool trim_is_due(const struct shard *shard)
{
    const struct alarm_memory *m = &shard->alarm.memory;
    uint64_t near = m->limit - m->limit / 8 - m->limit / 32;
    return m->limit > 0 && !shard->alarm.trimming && m->used >= near &&
           (shard->alarm.memory_high || m->used > shard->alarm.trimmed + m->limit / 64 ||
            m->used + m->limit / 64 < shard->alarm.trimmed);
}

static void trim_idle(struct shard *shard)
{
    const struct alarm_memory *m = &shard->alarm.memory;
    const uint64_t half = m->used / 2;
    const uint64_t now = shard->env->ops->mono_ns(shard->env);
    if (!shard->alarm.trimming && m->used >= IDLE_LEAST && now >= shard->alarm.idle_ns) {
        shard->alarm.trimming = true;
        shard->env->ops->memory_trim(shard->env, half > IDLE_LEAST ? half : IDLE_LEAST, IDLE_TOKEN);
    }
}

static void look(struct shard *shard)
{
    const struct alarm_memory *m = &shard->alarm.memory;
    if (!measure(shard)) {
        return;
    }
    bool trims = trim_is_due(shard);
    if (trims) {
        shard->alarm.trimming = true;
        shard->env->ops->memory_trim(shard->env, 0, TRIM_TOKEN);
    } else {
        trim_idle(shard);
    }
    /* What nobody uses is no reason for an alarm: unless it is far over, the trim comes first. */
    if (m->used < m->limit || !trims || m->used - m->limit >= m->limit / 8) {
        set_memory_high(shard, m->used >= m->limit);
    }
}

bool alarm_set_watermark(struct shard *shard, uint32_t relative_ppm, uint64_t absolute)
{
    if (shard->alarm.next_ns == 0) {
        return false;
    }
    shard->settings.memory_relative_ppm = relative_ppm;
    shard->settings.memory_absolute = absolute;
    shard->alarm.memory.limit = limit_of(relative_ppm, absolute, shard->alarm.memory.total);
    look(shard);
    return true;
}

static uint32_t idle_wait_s(const struct shard *shard, uint64_t before, int result)
{
    if (result != 0) {
        return IDLE_ASK_S;
    }
    return shard->alarm.memory.used + IDLE_GAIN <= before ? IDLE_S : IDLE_VAIN_S;
}

void alarm_on_exec(struct shard *shard, uint64_t token, int result)
{
    const uint64_t before = shard->alarm.memory.used;
    if (token != TRIM_TOKEN && token != IDLE_TOKEN) {
        return;
    }
    shard->alarm.trimming = false;
    const bool measured = measure(shard);
    if (token == IDLE_TOKEN) {
        shard->alarm.idle_ns = shard->env->ops->mono_ns(shard->env) +
                               idle_wait_s(shard, before, result) * UINT64_C(1000000000);
    }
    if (measured && result == 0) {
        shard->alarm.trimmed = shard->alarm.memory.used;
        set_memory_high(shard, shard->alarm.memory.used >= shard->alarm.memory.limit);
    }
}

/* So that the event log of the node where publishers stand still says why. */
static void note_peer(struct shard *shard, struct peer *peer)
{
    static const struct {
        uint32_t bit;
        const char *name;
    } kinds[] = {{BROKER_ALARM_MEMORY, "memory"}, {BROKER_ALARM_DISK, "disk"}};
    uint32_t alarms = peer->ready ? peer->alarms : 0;
    for (size_t i = 0; i < WR_ARRAY_SIZE(kinds); i++) {
        bool now = (alarms & kinds[i].bit) != 0;
        if (now == ((peer->alarms_noted & kinds[i].bit) != 0)) {
            continue;
        }
        if (now) {
            wr_log(
                shard->logger, LOG_LEVEL_WARNING, kinds[i].name,
                "%s alarm on node '%s': publishers here are held back too; its event log says why",
                kinds[i].name, peer->name);
        } else {
            wr_log(shard->logger, LOG_LEVEL_INFO, kinds[i].name, "%s alarm on node '%s' cleared%s",
                   kinds[i].name, peer->name, peer->ready ? "" : ": there is no link to it");
        }
    }
    peer->alarms_noted = alarms;
}

void alarm_turn(struct shard *shard)
{
    if (shard->number == 0) {
        uint64_t now = shard->env->ops->mono_ns(shard->env);
        if (shard->alarm.next_ns != 0 && now >= shard->alarm.next_ns) {
            shard->alarm.next_ns = now + (uint64_t)shard->config->memory_interval_ms * 1000000;
            look(shard);
        }
        LIST_FOREACH(at, &shard->links.peers) {
            note_peer(shard, WR_CONTAINER_OF(at, struct peer, link));
        }
    }
    broker_set_alarms(shard->broker, alarm_own(shard) | links_alarms(shard));
}

uint64_t alarm_deadline_ns(const struct shard *shard)
{
    return shard->alarm.next_ns != 0 ? shard->alarm.next_ns : UINT64_MAX;
}
