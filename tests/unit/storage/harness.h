#ifndef WR_TEST_STORAGE_HARNESS_H
#define WR_TEST_STORAGE_HARNESS_H
/*
 * A log on a fake env, with a model of what was submitted and what came back.
 *
 * Every record of the model has a sequence number, which is also its index; kind, group, term,
 * flags and payload follow from it, so that a recovered record can be checked against nothing but
 * its index. Invariants checked at each recovery: what comes back is a contiguous stretch of what
 * was submitted, in order; it reaches at least as far as what was reported durable; it begins no
 * later than the first record in a segment that was not released; contents and (if known) positions
 * are equal.
 */
#include "fake_env.h"

#include "format.h"
#include "warren/log.h"

struct record_state {
    uint64_t salt; /* draws again after a record was lost: same index, other contents */
    struct log_position position;
    uint32_t size;
    bool durable;
};

struct harness {
    struct fake_env fake;
    struct sim_disk *disk;
    struct sim_kv *kv;
    struct log *log;
    struct log_options options;
    struct prng prng;
    VEC(struct record_state) records; /* record i has index i + 1 */
    uint64_t durable;                 /* records reported durable: a prefix */
    uint64_t batches_out, batches_back, last_of_shard[8];
    uint32_t released;      /* segments that all shards released */
    uint32_t retire_wanted; /* highest RETIRE seen */
    uint32_t blocked_mails, resumed_mails;
    uint32_t low_mails, cheap_mails; /* STATE{low}; RETIRE{cheaply}, which are not answered */
    bool auto_release;               /* answer RETIRE at once */
    uint64_t force_salt;             /* not 0: records get this, one up each (stored formats) */
    bool lazy;                       /* batches submitted from now on are */
    bool check_off;                  /* sync off: durable is no promise after a power failure */
    char errmsg[256];

    uint64_t recovered_first, recovered_count; /* by the last open */
    bool recovering_bad;                       /* a recovered record was wrong */
};

void harness_init(struct harness *h, uint64_t seed, uint32_t shards, uint32_t segment_size);
void harness_deinit(struct harness *h);
/* log_open with the model as sink; checks what was recovered when it succeeds. */
int harness_open(struct harness *h);
/* Ends the process (power: the machine too) and makes a new fake env. */
void harness_crash(struct harness *h, bool power);
/* A batch of `count` records with payloads of `size` bytes (size_max: random up to it). */
void harness_submit(struct harness *h, uint32_t shard, uint32_t count, uint32_t size);
void harness_submit_random(struct harness *h, uint32_t size_max);
/* Takes all mails posted to shards. */
void harness_mail(struct harness *h);
/* One step of the fake env, then the mail. False: nothing was due. */
bool harness_step(struct harness *h);
void harness_run(struct harness *h);
/* Lets time pass until the log wishes nothing any more (marks are written). */
void harness_quiet(struct harness *h);
/* The payload record `index` must have. */
struct buf *harness_payload(const struct harness *h, uint64_t index);

#define HARNESS_DIR "/node"

#endif
