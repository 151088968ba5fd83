#ifndef WR_FAKE_ENV_H
#define WR_FAKE_ENV_H
/*
 * A test's env: files, checkpoint store, mail, time and exec in memory, deterministic from a seed.
 * One fake_env stands for one context; several of one node may share a disk and a kv store (pass
 * them in). Nothing happens by itself: the test calls fake_env_step, or _run, which make upcalls.
 * The network part of env_ops is NULL, for harnesses to fill in (`ops` is a copy of their own).
 */
#include "sim_file.h"
#include "sim_kv.h"

#include "warren/env.h"
#include "warren/list.h"
#include "warren/vec.h"

struct fake_env {
    struct env env;     /* first: what the code under test gets */
    struct env_ops ops; /* env.ops points here; may be changed by the test */
    const struct env_sink *sink;
    void *sink_ctx;
    struct prng prng;
    struct sim_disk *disk; /* may be shared; freed by fake_env_deinit only when owns_disk */
    struct sim_kv *kv;
    bool owns_disk, owns_kv;

    uint64_t mono_ns; /* virtual time; the test may advance it */
    uint64_t wall_ms;
    uint64_t turn_ms; /* how long this turn has taken: what is read anew is so much later */
    uint64_t wake_at; /* UINT64_MAX = none */

    /* Mail posted by the code under test, per receiver, in order. When `post` is set it gets every
     * mail instead. */
    struct fake_mailbox {
        struct mail *head, **tail;
        uint32_t count;
    } * mailboxes;
    void (*post)(void *ctx, struct fake_env *from, uint32_t context, struct mail *owned_mail);
    void *post_ctx;

    struct list files;   /* open env_file */
    struct list execs;   /* not yet run */
    struct list buffers; /* read data waiting for file_take */
    bool stopped;
    int exit_code;
    char stop_why[512];
    uint64_t upcalls; /* made so far */
};

/* disk, kv: NULL = make and own one. sink may be set later (before the first step). */
void fake_env_init(struct fake_env *fake, uint64_t seed, uint32_t context, uint32_t context_count,
                   struct sim_disk *disk, struct sim_kv *kv);
/* Frees undelivered mail, execs and open files; not what the code under test owns. */
void fake_env_deinit(struct fake_env *fake);
void fake_env_set_sink(struct fake_env *fake, const struct env_sink *sink, void *ctx);

/* Mail to the context of this fake_env: delivered as an upcall at once, then turn(). */
void fake_env_deliver(struct fake_env *fake, uint32_t from, struct mail *owned_mail);
/* Takes the first mail posted to `context`; NULL when there is none. */
struct mail *fake_env_take_mail(struct fake_env *fake, uint32_t context);
/* Does one thing that is due (file, kv or exec completion, mail of this context to itself, an
 * expired wake), chosen by the seed, then turn(). False: nothing is due. Completions of a shared
 * disk or store go to the fake_env whose handle or call it was. */
bool fake_env_step(struct fake_env *fake);
/* Steps until nothing is due. Time stands still. Asserts that it ends within `steps_max`. */
void fake_env_run(struct fake_env *fake, uint32_t steps_max);
/* Advances time to the wished wake-up (if any) and lets turn() run. False: no wish. */
bool fake_env_sleep(struct fake_env *fake);

/* The node died: nothing pending comes back, files are closed, mail is destroyed. The disk and the
 * store must then be told (sim_disk_crash or sim_disk_kill, same for kv) before they are used again
 * by a new fake_env. */
void fake_env_die(struct fake_env *fake);

#endif
