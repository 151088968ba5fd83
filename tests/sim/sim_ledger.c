/*
 * What: every message that clients sent, and what became of it, as far as they can know.
 *
 * A body names its publisher, number and queue, and is filled with a pattern that follows from
 * them, so a body that was mixed up or damaged is recognised.
 */
#include <string.h>

#include "sim.h"

#include "warren/mem.h"

#define BODY_MAGIC 0x57524e53u
#define CLOCKS_MS  100u /* by which nodes' clocks differ when none jumps */

static uint8_t pattern(uint32_t publisher, uint64_t seq, uint32_t at)
{
    return (uint8_t)(seq * 31 + publisher * 7 + at * 13 + (at >> 8));
}

void sim_body_write(uint8_t *out, uint32_t publisher, uint64_t seq, uint32_t queue, uint32_t size)
{
    WR_ASSERT_OP(size, >=, SIM_BODY_MIN);
    bytes_store_le32(out, BODY_MAGIC);
    bytes_store_le32(out + 4, publisher);
    bytes_store_le64(out + 8, seq);
    bytes_store_le32(out + 16, queue);
    bytes_store_le32(out + 20, size);
    for (uint32_t i = SIM_BODY_MIN; i < size; i++) {
        out[i] = pattern(publisher, seq, i);
    }
}

struct sim_record *sim_ledger_record(struct sim *sim, uint32_t publisher, uint64_t seq)
{
    if (publisher >= sim->ledger.publishers.count) {
        return NULL;
    }
    struct sim_publisher *p = &sim->ledger.publishers.items[publisher];
    return seq < p->records.count ? &p->records.items[seq] : NULL;
}

uint64_t sim_ledger_send(struct sim *sim, uint32_t publisher, uint32_t queue, uint32_t epoch,
                         uint32_t size)
{
    struct sim_ledger *ledger = &sim->ledger;
    while (ledger->publishers.count <= publisher) {
        (void)vec_add(&ledger->publishers);
    }
    struct sim_publisher *p = &ledger->publishers.items[publisher];
    struct sim_record record = {.queue = queue, .epoch = epoch, .size = size, .sent_at = sim->now};
    vec_push(&p->records, record);
    ledger->sent++;
    return p->records.count - 1;
}

void sim_ledger_confirm(struct sim *sim, uint32_t publisher, uint64_t seq, bool ack)
{
    struct sim_record *record = sim_ledger_record(sim, publisher, seq);
    WR_ASSERT(record != NULL);
    if (record->confirmed || record->nacked) {
        sim_fail(sim, "message %u.%llu was confirmed twice", publisher, (unsigned long long)seq);
    }
    record->confirmed = ack && !record->returned;
    record->nacked = !ack;
    sim->ledger.confirmed += ack ? 1 : 0;
    sim->ledger.nacked += ack ? 0 : 1;
    SIM_SOMETIMES(sim, !ack, SIM_SEEN_NACKED);
}

/* A message that was delayed comes when that has passed; one that is returned too often goes. */
static void check_rules(struct sim *sim, const struct sim_record *record, uint32_t publisher,
                        uint64_t seq)
{
    const uint32_t limit = sim->ledger.queues[record->queue].delivery_limit;
    if (!sim->options.faults[SIM_FAULT_CLOCK] &&
        sim->now + CLOCKS_MS * SIM_MS < record->sent_at + record->delay_ms * SIM_MS) {
        sim_fail(sim, "message %u.%llu came %llu ms after it was sent, with a delay of %u ms",
                 publisher, (unsigned long long)seq,
                 (unsigned long long)((sim->now - record->sent_at) / SIM_MS), record->delay_ms);
    }
    if (limit > 0 && record->received > limit + 1) {
        sim_fail(sim, "message %u.%llu came %u times, with a delivery limit of %u", publisher,
                 (unsigned long long)seq, record->received, limit);
    }
}

/* What died or was moved may come to the graves. */
static bool is_grave(const struct sim *sim, const struct sim_record *record, uint32_t queue)
{
    return record->queue != queue && sim->ledger.queues[record->queue].graves == queue + 1;
}

struct sim_record *sim_ledger_recognise(struct sim *sim, struct bytes body, uint32_t queue,
                                        uint32_t *ret_publisher, uint64_t *ret_seq)
{
    if (body.size < SIM_BODY_MIN || bytes_load_le32(body.data) != BODY_MAGIC) {
        sim_fail(sim, "queue %u delivered a body of %zu bytes that nobody sent", queue, body.size);
    }
    uint32_t publisher = bytes_load_le32(body.data + 4);
    uint64_t seq = bytes_load_le64(body.data + 8);
    struct sim_record *record = sim_ledger_record(sim, publisher, seq);
    if (record == NULL || (record->queue != queue && !is_grave(sim, record, queue)) ||
        bytes_load_le32(body.data + 16) != record->queue || record->size != body.size ||
        bytes_load_le32(body.data + 20) != body.size) {
        sim_fail(
            sim,
            "queue %u delivered message %u.%llu, %zu bytes, which was not sent there like that",
            queue, publisher, (unsigned long long)seq, body.size);
    }
    for (uint32_t i = SIM_BODY_MIN; i < body.size; i++) {
        if (body.data[i] != pattern(publisher, seq, i)) {
            sim_fail(sim, "message %u.%llu is damaged at byte %u of %zu", publisher,
                     (unsigned long long)seq, i, body.size);
        }
    }
    *ret_publisher = publisher;
    *ret_seq = seq;
    return record;
}

static void check_wanted(struct sim *sim, const struct sim_record *record, uint32_t queue,
                         uint32_t publisher, uint64_t seq)
{
    if (record->settled) {
        sim_fail(sim, "message %u.%llu of queue %u came again although its ack was applied",
                 publisher, (unsigned long long)seq, queue);
    }
    if (record->ended) {
        sim_fail(sim, "message %u.%llu of queue %u came although its queue was deleted", publisher,
                 (unsigned long long)seq, queue);
    }
    if (record->returned) {
        sim_fail(sim, "message %u.%llu was returned as unroutable and delivered all the same",
                 publisher, (unsigned long long)seq);
    }
    if (record->dropped) {
        sim_fail(sim, "message %u.%llu came although its transaction was not committed", publisher,
                 (unsigned long long)seq);
    }
}

/* Nobody moves a message twice unless something goes wrong: a page that met its time limit on a
 * slow network put messages there that it had not taken away yet. */
static void check_moved(struct sim *sim, const struct sim_record *record, uint32_t publisher,
                        uint64_t seq)
{
    bool faults = sim_mover_was_cut_short(sim);
    for (uint32_t i = 0; i < SIM_FAULT_KIND_COUNT; i++) {
        faults = faults || sim->options.faults[i];
    }
    if (!faults && !sim->options.copies && record->queue == sim->options.queues + SIM_AT_ATTIC &&
        record->buried_first > 1) {
        sim_fail(sim, "message %u.%llu was moved twice", publisher, (unsigned long long)seq);
    }
}

struct sim_record *sim_ledger_receive(struct sim *sim, struct bytes body, uint32_t queue,
                                      bool redelivered, uint32_t *ret_publisher, uint64_t *ret_seq)
{
    struct sim_record *record = sim_ledger_recognise(sim, body, queue, ret_publisher, ret_seq);
    const uint32_t publisher = *ret_publisher;
    const uint64_t seq = *ret_seq;
    const bool dead = is_grave(sim, record, queue);
    check_wanted(sim, record, queue, publisher, seq);
    record->received += dead ? 0 : 1;
    record->buried += dead ? 1 : 0;
    record->buried_first += dead && !redelivered ? 1 : 0;
    check_moved(sim, record, publisher, seq);
    SIM_SOMETIMES(sim, dead, SIM_SEEN_DEAD);
    record->received_first += redelivered || dead ? 0 : 1;
    record->delivered_at = sim->now;
    check_rules(sim, record, publisher, seq);
    if (record->received_first > 1) {
        sim_fail(sim, "message %u.%llu of queue %u came twice without the redelivered flag",
                 publisher, (unsigned long long)seq, queue);
    }
    sim->ledger.received++;
    sim->ledger.redelivered += redelivered ? 1 : 0;
    SIM_SOMETIMES(sim, redelivered, SIM_SEEN_REDELIVERED);
    SIM_SOMETIMES(sim, redelivered && sim->now < sim->leader_changed_at + 2 * SIM_S,
                  SIM_SEEN_REDELIVERED_LEADER);
    return record;
}

bool sim_ledger_is_missing(const struct sim *sim, const struct sim_record *record)
{
    if (sim->options.deletes && record->queue == sim->options.queues + SIM_AT_ATTIC &&
        record->size < SIM_DOOMED_SIZE) {
        return false;
    }
    return record->confirmed && record->received + record->buried == 0 &&
           sim->ledger.queues[record->queue].strict;
}

bool sim_ledger_complete(struct sim *sim, uint64_t *ret_missing)
{
    uint64_t missing = 0;
    for (size_t i = 0; i < sim->ledger.publishers.count; i++) {
        struct sim_publisher *p = &sim->ledger.publishers.items[i];
        for (size_t k = 0; k < p->records.count; k++) {
            missing += sim_ledger_is_missing(sim, &p->records.items[k]) ? 1 : 0;
        }
    }
    *ret_missing = missing;
    return missing == 0;
}

/* No rule of the queue takes one message of a commit and leaves another. */
static bool keeps_all(const struct sim_queue *q)
{
    return q->strict && q->ttl_ms == 0 && q->length_max == 0 && q->delivery_limit == 0;
}

void sim_ledger_check_commits(struct sim *sim)
{
    for (size_t i = 0; i < sim->ledger.publishers.count; i++) {
        const struct sim_publisher *p = &sim->ledger.publishers.items[i];
        for (size_t k = 1; k < p->records.count; k++) {
            const struct sim_record *before = &p->records.items[k - 1];
            const struct sim_record *record = &p->records.items[k];
            if (record->tx != 0 && record->tx == before->tx && record->received > 0 &&
                before->received == 0 && keeps_all(&sim->ledger.queues[record->queue])) {
                sim_fail(sim, "message %zu.%zu arrived, and the one before it in its commit not", i,
                         k);
            }
        }
    }
}

void sim_ledger_deinit(struct sim *sim)
{
    for (size_t i = 0; i < sim->ledger.publishers.count; i++) {
        vec_deinit(&sim->ledger.publishers.items[i].records);
    }
    vec_deinit(&sim->ledger.publishers);
}
