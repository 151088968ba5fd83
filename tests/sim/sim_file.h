#ifndef WR_SIM_FILE_H
#define WR_SIM_FILE_H
/*
 * A simulated disk: named files with what a reader sees now (the OS's cache) and what would be left
 * after a power failure (durable), deterministic from its generator.
 *
 * Model
 * - A write is asynchronous: it is submitted, and takes effect when sim_disk_step completes it.
 *   Writes of one file complete in order; different files in any order.
 * - A completed write is in the cache. It becomes durable by a sync of that file that was submitted
 *   after it had completed, and that completes without error.
 * - A failed sync leaves the cache as it is and forgets that it was dirty (as Linux does): a later
 *   sync reports success and does nothing for these bytes.
 * - sim_disk_crash: for every write that is not durable (completed or still in flight), each
 *   512-byte sector of it is, independently, kept, dropped or (torn) garbled; per crash it is drawn
 *   which of these can happen. Names (create, rename, unlink) not yet followed by a directory sync
 *   are kept as a prefix of their order or, in some crashes, each for itself. Nobody's file handle
 *   survives.
 * - Faults on demand: the n-th next operation of a kind fails; capacity; bit flips.
 *
 * Ownership: the disk owns files and handles; sim_disk_free frees all. Threads: one.
 */
#include <stdbool.h>
#include <stdint.h>

#include "warren/buf.h"
#include "warren/prng.h"

#define SIM_SECTOR_SIZE 512u

enum sim_file_op {
    SIM_FILE_OPEN = 0,
    SIM_FILE_READ,
    SIM_FILE_WRITE,
    SIM_FILE_SYNC,
    SIM_FILE_ALLOCATE,
    SIM_FILE_RENAME,
    SIM_FILE_UNLINK,
    SIM_FILE_DIR_SYNC,
    SIM_FILE_OP_COUNT,
};

struct sim_disk;
struct sim_handle; /* one open file */

/* A completed operation, for the owner of the handle. */
struct sim_file_done {
    void *user; /* as given with the operation */
    uint64_t token;
    enum sim_file_op op;
    int64_t result;         /* bytes or 0, or WR_E_* */
    struct buf *owned_data; /* SIM_FILE_READ that succeeded: size = bytes read; else NULL */
};

struct sim_disk *sim_disk_new(uint64_t seed);
void sim_disk_free(struct sim_disk *disk);
/* Bytes that all files together may have; UINT64_MAX (the default) = no limit. */
void sim_disk_set_capacity(struct sim_disk *disk, uint64_t bytes);
uint64_t sim_disk_used(const struct sim_disk *disk);
uint64_t sim_disk_free_bytes(const struct sim_disk *disk);
/* The nth operation of this kind from now (1 = the next) ends with `error`; and the `repeat - 1`
 * after it. nth 0 takes the order back. */
void sim_disk_fail(struct sim_disk *disk, enum sim_file_op op, uint32_t nth, uint32_t repeat,
                   int error);

/* --- at once: 0 or WR_E_* ------------------------------------------------------------ */
int sim_dir_list(struct sim_disk *disk, const char *dir, char ***ret_names, uint32_t *ret_count);
int sim_dir_make(struct sim_disk *disk, const char *dir); /* durable at once */
int sim_dir_sync(struct sim_disk *disk, const char *dir);
/* flags: enum env_open. `user` is handed out with the completions of this handle. */
int sim_file_open(struct sim_disk *disk, const char *path, uint32_t flags, void *user,
                  struct sim_handle **ret_handle);
int sim_file_size(struct sim_handle *handle, uint64_t *ret_size);
int sim_file_allocate(struct sim_handle *handle, uint64_t size);
int sim_file_truncate(struct sim_handle *handle, uint64_t size);
int64_t sim_file_pread(struct sim_handle *handle, void *data, size_t size, uint64_t offset);
/* Sync at once, and what is read afterwards is what is durable. */
int sim_file_settle(struct sim_handle *handle);
int sim_file_unlink(struct sim_disk *disk, const char *path);
int sim_file_rename(struct sim_disk *disk, const char *from, const char *to);
/* Operations under way still complete. */
void sim_file_close(struct sim_handle *owned_handle);

/* --- asynchronous ------------------------------------------------------------ */
/* Takes the references of the slices; the array stays the caller's. */
void sim_file_write(struct sim_handle *handle, struct slice *owned, uint32_t count, uint64_t offset,
                    uint64_t token);
void sim_file_sync(struct sim_handle *handle, uint64_t token);
void sim_file_read(struct sim_handle *handle, uint64_t offset, uint32_t size, uint64_t token);
/* Operations under way. */
uint32_t sim_disk_pending(const struct sim_disk *disk);
/* Completes one operation, chosen by the disk's generator among those that may be next. False when
 * there is none. */
bool sim_disk_step(struct sim_disk *disk, struct sim_file_done *ret_done);

/* --- faults ------------------------------------------------------------ */
/* Power failure: see above. Pending operations and handles are gone (handles must not be used). */
void sim_disk_crash(struct sim_disk *disk);
/* Writes that a power failure may take now, in flight or completed. */
uint32_t sim_disk_unsynced(const struct sim_disk *disk);
/* The process died, the machine did not: the cache stays, what was in flight is done or dropped. */
void sim_disk_kill(struct sim_disk *disk);
/* Changes stored bytes: byte ^= mask (mask != 0), in cache and durable state. False: no such byte.
 */
bool sim_disk_flip(struct sim_disk *disk, const char *path, uint64_t offset, uint8_t mask);
/* Replaces or reads a whole file, durably and at once (tests; putting a stale copy back). */
void sim_disk_put(struct sim_disk *disk, const char *path, const void *data, size_t size);
struct buf *sim_disk_get(struct sim_disk *disk, const char *path); /* NULL: no such file */
/* What a power failure that drops everything unsynced would leave; NULL: no such file then. The
 * simulator's oracle of honesty reads this. */
struct buf *sim_disk_get_durable(struct sim_disk *disk, const char *path);
/* The same, a part of it: the bytes there are, into out. */
uint64_t sim_disk_read_durable(struct sim_disk *disk, const char *path, uint64_t offset, void *out,
                               uint64_t size);
/* CRC of all durable and cached state, for the check of determinism. */
uint32_t sim_disk_hash(const struct sim_disk *disk);

#endif
