/*
 * What: what the files of the simulated disk know of each other. sim_file.c: life and operations;
 * sim_file_tree.c: contents, inodes, names; sim_file_crash.c: what a crash leaves, and looking at
 * it.
 */
#ifndef WR_SIM_FILE_INTERNAL_H
#define WR_SIM_FILE_INTERNAL_H

#include "sim_file.h"

#include "warren/env.h"
#include "warren/err.h"
#include "warren/list.h"
#include "warren/vec.h"

/* Bytes and a logical size. */
struct content {
    uint8_t *bytes;
    uint64_t stored, capacity, size;
};

struct dirty {
    struct list link;
    uint64_t sequence, offset, size;
    uint8_t bytes[];
};

struct inode {
    struct list link;
    uint32_t refs;
    struct content cache, durable;
    struct list writes; /* struct dirty, completed and not durable, oldest first */
    bool size_dirty;
};

struct name {
    char *path;
    struct inode *inode;
};
VEC_TYPE(name_vec, struct name);

struct name_change {
    struct list link;
    char *remove; /* or NULL */
    char *set;    /* or NULL */
    struct inode *inode;
};

struct op {
    struct list link;
    struct inode *inode;
    void *user;
    uint64_t token;
    enum sim_file_op kind;
    uint64_t offset, size;
    uint64_t covers;     /* sync: sequence of the last write that had completed */
    struct dirty *write; /* what it will do */
};

struct sim_handle {
    struct list link;
    struct sim_disk *disk;
    struct inode *inode;
    void *user;
    uint32_t flags;
};

struct fault {
    uint32_t in, repeat;
    int error;
};

struct sim_disk {
    struct prng prng;
    uint64_t capacity, sequence;
    struct list inodes, handles, ops, changes;
    uint32_t pending;
    struct name_vec names, durable_names;
    VEC(char *) dirs;
    struct fault faults[SIM_FILE_OP_COUNT];
};

/* What may happen to each sector of a write that nobody has synced. */
struct lottery {
    bool keep, drop, garble;
};

/* sim_file_tree.c */
void sim__content_write(struct content *c, uint64_t offset, const uint8_t *bytes, uint64_t size);
void sim__content_resize(struct content *c, uint64_t size);
uint64_t sim__content_read(const struct content *c, uint64_t offset, uint8_t *out, uint64_t size);
void sim__content_copy(struct content *to, const struct content *from);
uint32_t sim__content_hash(const struct content *c, uint32_t crc);
struct inode *sim__inode_ref(struct inode *inode);
void sim__inode_unref(struct inode *inode);
struct inode *sim__inode_new(struct sim_disk *disk);
struct inode *sim__names_find(const struct name_vec *names, const char *path);
void sim__names_set(struct name_vec *names, const char *path, struct inode *inode);
void sim__names_clear(struct name_vec *names);
void sim__change_apply(struct name_vec *names, const struct name_change *change);
void sim__change_free(struct name_change *change);
void sim__change_names(struct sim_disk *disk, const char *removed, const char *set,
                       struct inode *inode);
bool sim__in_dir(const char *path, const char *dir);
bool sim__dir_exists(const struct sim_disk *disk, const char *dir);

/* sim_file.c */
void sim__drop_ops_and_handles(struct sim_disk *disk);
void sim__write_complete(struct sim_disk *disk, struct inode *inode, struct op *op);
void sim__write_lottery(struct prng *prng, struct content *durable, const struct dirty *write,
                        struct lottery may);

#endif
