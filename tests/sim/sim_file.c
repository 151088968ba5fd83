/*
 * What: the simulated disk (model and contract in sim_file.h).
 *
 * An inode has its bytes as readers see them (cache) and as a power failure would leave them
 * (durable), and the list of writes that are in the first and not yet in the second. Bytes past
 * `stored` and below `size` are zero, so a preallocated file costs nothing. Names are a sorted
 * array from path to inode, once as seen and once durable, plus the operations between the two.
 *
 * Invariants
 * I1  cache = durable with all dirty writes applied in order, except for what a failed sync forgot.
 * I2  An inode lives as long as a name (of either kind), a name operation, a handle or an operation
 *     under way refers to it (`refs`).
 */
#include "sim_file.h"

#include <stdio.h>
#include <string.h>

#include "warren/crc32c.h"
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

/* --- content ------------------------------------------------------------ */

static void content_write(struct content *c, uint64_t offset, const uint8_t *bytes, uint64_t size)
{
    const uint64_t end = offset + size;
    if (end > c->capacity) {
        c->capacity = end > c->capacity * 2 ? end : c->capacity * 2;
        c->bytes = wr_realloc(c->bytes, c->capacity);
    }
    if (end > c->stored) {
        memset(c->bytes + c->stored, 0, end - c->stored);
        c->stored = end;
    }
    memcpy(c->bytes + offset, bytes, size);
    c->size = end > c->size ? end : c->size;
}

static void content_resize(struct content *c, uint64_t size)
{
    c->size = size;
    c->stored = c->stored < size ? c->stored : size;
}

static uint64_t content_read(const struct content *c, uint64_t offset, uint8_t *out, uint64_t size)
{
    if (offset >= c->size) {
        return 0;
    }
    const uint64_t n = size < c->size - offset ? size : c->size - offset;
    const uint64_t have = offset >= c->stored ? 0 : c->stored - offset;
    const uint64_t copied = n < have ? n : have;
    if (copied > 0) {
        memcpy(out, c->bytes + offset, copied);
    }
    memset(out + copied, 0, n - copied);
    return n;
}

static void content_copy(struct content *to, const struct content *from)
{
    to->stored = 0;
    to->size = 0;
    if (from->stored > 0) {
        content_write(to, 0, from->bytes, from->stored);
    }
    to->size = from->size;
}

static uint32_t content_hash(const struct content *c, uint32_t crc)
{
    /* Trailing zero bytes may be stored or not: they must not count. */
    uint64_t n = c->stored;
    while (n > 0 && c->bytes[n - 1] == 0) {
        n--;
    }
    crc = crc32c(crc, &c->size, sizeof(c->size));
    return n == 0 ? crc : crc32c(crc, c->bytes, n);
}

/* --- inodes and names ------------------------------------------------------------ */

static struct inode *inode_ref(struct inode *inode)
{
    inode->refs++;
    return inode;
}

static void inode_unref(struct inode *inode)
{
    if (--inode->refs > 0) {
        return;
    }
    LIST_FOREACH_SAFE(link, &inode->writes) {
        wr_free(WR_CONTAINER_OF(link, struct dirty, link));
    }
    list_remove(&inode->link);
    wr_free(inode->cache.bytes);
    wr_free(inode->durable.bytes);
    wr_free(inode);
}

static struct inode *inode_new(struct sim_disk *disk)
{
    struct inode *inode = wr_calloc(1, sizeof(*inode));
    inode->refs = 1;
    list_init(&inode->writes);
    list_push_back(&disk->inodes, &inode->link);
    return inode;
}

/* Position of path, or where it would be inserted. */
static size_t names_position(const struct name_vec *names, const char *path, bool *ret_found)
{
    size_t low = 0, high = names->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (strcmp(names->items[middle].path, path) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *ret_found = low < names->count && strcmp(names->items[low].path, path) == 0;
    return low;
}

static struct inode *names_find(const struct name_vec *names, const char *path)
{
    bool found;
    const size_t at = names_position(names, path, &found);
    return found ? names->items[at].inode : NULL;
}

static void names_remove(struct name_vec *names, const char *path)
{
    bool found;
    const size_t at = names_position(names, path, &found);
    if (found) {
        struct name name = names->items[at];
        vec_remove(names, at);
        wr_free(name.path);
        inode_unref(name.inode);
    }
}

static void names_set(struct name_vec *names, const char *path, struct inode *inode)
{
    (void)inode_ref(inode);
    names_remove(names, path);
    bool found;
    const size_t at = names_position(names, path, &found);
    vec_insert(names, at, (struct name){wr_strdup(path), inode});
}

static void names_clear(struct name_vec *names)
{
    for (size_t i = 0; i < names->count; i++) {
        wr_free(names->items[i].path);
        inode_unref(names->items[i].inode);
    }
    vec_clear(names);
}

static void change_apply(struct name_vec *names, const struct name_change *change)
{
    if (change->remove != NULL) {
        names_remove(names, change->remove);
    }
    if (change->set != NULL) {
        names_set(names, change->set, change->inode);
    }
}

static void change_free(struct name_change *change)
{
    list_remove(&change->link);
    wr_free(change->remove);
    wr_free(change->set);
    inode_unref(change->inode);
    wr_free(change);
}

/* Changes the names as seen and notes the change for the durable ones. */
static void change_names(struct sim_disk *disk, const char *removed, const char *set,
                         struct inode *inode)
{
    struct name_change *change = wr_calloc(1, sizeof(*change));
    change->remove = removed == NULL ? NULL : wr_strdup(removed);
    change->set = set == NULL ? NULL : wr_strdup(set);
    change->inode = inode_ref(inode);
    list_push_back(&disk->changes, &change->link);
    change_apply(&disk->names, change);
}

static bool in_dir(const char *path, const char *dir)
{
    const size_t size = strlen(dir);
    return strncmp(path, dir, size) == 0 && path[size] == '/' &&
           strchr(path + size + 1, '/') == NULL;
}

static bool dir_exists(const struct sim_disk *disk, const char *dir)
{
    for (size_t i = 0; i < disk->dirs.count; i++) {
        if (strcmp(disk->dirs.items[i], dir) == 0) {
            return true;
        }
    }
    return false;
}

/* --- life ------------------------------------------------------------ */

struct sim_disk *sim_disk_new(uint64_t seed)
{
    struct sim_disk *disk = wr_calloc(1, sizeof(*disk));
    prng_init(&disk->prng, seed);
    disk->capacity = UINT64_MAX;
    list_init(&disk->inodes);
    list_init(&disk->handles);
    list_init(&disk->ops);
    list_init(&disk->changes);
    return disk;
}

static void op_free(struct sim_disk *disk, struct op *op)
{
    list_remove(&op->link);
    disk->pending--;
    wr_free(op->write);
    inode_unref(op->inode);
    wr_free(op);
}

static void drop_ops_and_handles(struct sim_disk *disk)
{
    LIST_FOREACH_SAFE(link, &disk->ops) {
        op_free(disk, WR_CONTAINER_OF(link, struct op, link));
    }
    LIST_FOREACH_SAFE(link, &disk->handles) {
        sim_file_close(WR_CONTAINER_OF(link, struct sim_handle, link));
    }
}

void sim_disk_free(struct sim_disk *disk)
{
    if (disk == NULL) {
        return;
    }
    drop_ops_and_handles(disk);
    LIST_FOREACH_SAFE(link, &disk->changes) {
        change_free(WR_CONTAINER_OF(link, struct name_change, link));
    }
    names_clear(&disk->names);
    names_clear(&disk->durable_names);
    WR_ASSERT(list_is_empty(&disk->inodes)); /* I2 */
    vec_deinit(&disk->names);
    vec_deinit(&disk->durable_names);
    for (size_t i = 0; i < disk->dirs.count; i++) {
        wr_free(disk->dirs.items[i]);
    }
    vec_deinit(&disk->dirs);
    wr_free(disk);
}

void sim_disk_set_capacity(struct sim_disk *disk, uint64_t bytes)
{
    disk->capacity = bytes;
}

uint64_t sim_disk_used(const struct sim_disk *disk)
{
    uint64_t used = 0;
    LIST_FOREACH(link, &disk->inodes) {
        used += WR_CONTAINER_OF(link, struct inode, link)->cache.size;
    }
    return used;
}

uint64_t sim_disk_free_bytes(const struct sim_disk *disk)
{
    const uint64_t used = sim_disk_used(disk);
    return disk->capacity > used ? disk->capacity - used : 0;
}

void sim_disk_fail(struct sim_disk *disk, enum sim_file_op op, uint32_t nth, uint32_t repeat,
                   int error)
{
    disk->faults[op] = (struct fault){nth, repeat, error};
}

/* The error this operation must end with, or 0. */
static int fault(struct sim_disk *disk, enum sim_file_op op)
{
    struct fault *f = &disk->faults[op];
    if (f->in == 0 || --f->in > 0) {
        return 0;
    }
    if (f->repeat > 1) {
        f->repeat--;
        f->in = 1;
    }
    return f->error;
}

/* --- at once ------------------------------------------------------------ */

int sim_dir_list(struct sim_disk *disk, const char *dir, char ***ret_names, uint32_t *ret_count)
{
    if (!dir_exists(disk, dir)) {
        return WR_E_NOTFOUND;
    }
    VEC(char *) found;
    vec_init(&found);
    for (size_t i = 0; i < disk->names.count; i++) {
        if (in_dir(disk->names.items[i].path, dir)) {
            vec_push(&found, wr_strdup(disk->names.items[i].path + strlen(dir) + 1));
        }
    }
    *ret_names = found.items != NULL ? found.items : wr_alloc(1);
    *ret_count = (uint32_t)found.count;
    return 0;
}

int sim_dir_make(struct sim_disk *disk, const char *dir)
{
    if (!dir_exists(disk, dir)) {
        vec_push(&disk->dirs, wr_strdup(dir));
    }
    return 0;
}

int sim_dir_sync(struct sim_disk *disk, const char *dir)
{
    const int error = fault(disk, SIM_FILE_DIR_SYNC);
    if (error != 0) {
        return error;
    }
    LIST_FOREACH_SAFE(link, &disk->changes) {
        struct name_change *change = WR_CONTAINER_OF(link, struct name_change, link);
        if (in_dir(change->set != NULL ? change->set : change->remove, dir)) {
            change_apply(&disk->durable_names, change);
            change_free(change);
        }
    }
    return 0;
}

int sim_file_open(struct sim_disk *disk, const char *path, uint32_t flags, void *user,
                  struct sim_handle **ret_handle)
{
    const int error = fault(disk, SIM_FILE_OPEN);
    if (error != 0) {
        return error;
    }
    struct inode *inode = names_find(&disk->names, path);
    if (inode != NULL && (flags & ENV_OPEN_EXCLUSIVE) != 0) {
        return WR_E_EXISTS;
    }
    if (inode == NULL) {
        if ((flags & ENV_OPEN_CREATE) == 0) {
            return WR_E_NOTFOUND;
        }
        inode = inode_new(disk);
        change_names(disk, NULL, path, inode);
        inode_unref(inode);
    }
    struct sim_handle *handle = wr_calloc(1, sizeof(*handle));
    handle->disk = disk;
    handle->inode = inode_ref(inode);
    handle->user = user;
    handle->flags = flags;
    list_push_back(&disk->handles, &handle->link);
    *ret_handle = handle;
    return 0;
}

void sim_file_close(struct sim_handle *owned_handle)
{
    if (owned_handle != NULL) {
        list_remove(&owned_handle->link);
        inode_unref(owned_handle->inode);
        wr_free(owned_handle);
    }
}

int sim_file_size(struct sim_handle *handle, uint64_t *ret_size)
{
    *ret_size = handle->inode->cache.size;
    return 0;
}

int sim_file_allocate(struct sim_handle *handle, uint64_t size)
{
    struct sim_disk *disk = handle->disk;
    const int error = fault(disk, SIM_FILE_ALLOCATE);
    if (error != 0) {
        return error;
    }
    struct inode *inode = handle->inode;
    if (size > inode->cache.size) {
        if (size - inode->cache.size > disk->capacity ||
            sim_disk_used(disk) > disk->capacity - (size - inode->cache.size)) {
            return WR_E_NOSPACE;
        }
        content_resize(&inode->cache, size);
        inode->size_dirty = true;
    }
    return 0;
}

int sim_file_truncate(struct sim_handle *handle, uint64_t size)
{
    content_resize(&handle->inode->cache, size);
    handle->inode->size_dirty = true;
    return 0;
}

int64_t sim_file_pread(struct sim_handle *handle, void *data, size_t size, uint64_t offset)
{
    const int error = fault(handle->disk, SIM_FILE_READ);
    if (error != 0) {
        return error;
    }
    return (int64_t)content_read(&handle->inode->cache, offset, data, size);
}

/* Writes up to `covers` become durable and are no longer dirty. */
static void make_durable(struct inode *inode, uint64_t covers)
{
    if (inode->size_dirty) {
        content_resize(&inode->durable, inode->cache.size);
        inode->size_dirty = false;
    }
    LIST_FOREACH_SAFE(link, &inode->writes) {
        struct dirty *write = WR_CONTAINER_OF(link, struct dirty, link);
        if (write->sequence <= covers) {
            content_write(&inode->durable, write->offset, write->bytes, write->size);
            list_remove(&write->link);
            wr_free(write);
        }
    }
}

int sim_file_settle(struct sim_handle *handle)
{
    const int error = fault(handle->disk, SIM_FILE_SYNC);
    if (error != 0) {
        return error;
    }
    make_durable(handle->inode, UINT64_MAX);
    content_copy(&handle->inode->cache, &handle->inode->durable);
    return 0;
}

int sim_file_unlink(struct sim_disk *disk, const char *path)
{
    const int error = fault(disk, SIM_FILE_UNLINK);
    if (error != 0) {
        return error;
    }
    struct inode *inode = names_find(&disk->names, path);
    if (inode == NULL) {
        return WR_E_NOTFOUND;
    }
    change_names(disk, path, NULL, inode);
    return 0;
}

int sim_file_rename(struct sim_disk *disk, const char *from, const char *to)
{
    const int error = fault(disk, SIM_FILE_RENAME);
    if (error != 0) {
        return error;
    }
    struct inode *inode = names_find(&disk->names, from);
    if (inode == NULL) {
        return WR_E_NOTFOUND;
    }
    change_names(disk, from, to, inode);
    return 0;
}

/* --- asynchronous ------------------------------------------------------------ */

static struct op *op_new(struct sim_handle *handle, enum sim_file_op kind, uint64_t token)
{
    struct op *op = wr_calloc(1, sizeof(*op));
    op->inode = inode_ref(handle->inode);
    op->user = handle->user;
    op->token = token;
    op->kind = kind;
    list_push_back(&handle->disk->ops, &op->link);
    handle->disk->pending++;
    return op;
}

void sim_file_write(struct sim_handle *handle, struct slice *owned, uint32_t count, uint64_t offset,
                    uint64_t token)
{
    WR_ASSERT((handle->flags & ENV_OPEN_WRITE) != 0);
    uint64_t size = 0;
    for (uint32_t i = 0; i < count; i++) {
        size += owned[i].size;
    }
    struct op *op = op_new(handle, SIM_FILE_WRITE, token);
    op->offset = offset;
    op->size = size;
    op->write = wr_alloc(sizeof(*op->write) + size);
    op->write->offset = offset;
    op->write->size = size;
    uint64_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (owned[i].size > 0) {
            memcpy(op->write->bytes + at, slice_data(&owned[i]), owned[i].size);
        }
        at += owned[i].size;
        slice_unref(&owned[i]);
    }
}

void sim_file_sync(struct sim_handle *handle, uint64_t token)
{
    struct op *op = op_new(handle, SIM_FILE_SYNC, token);
    op->covers = handle->disk->sequence;
}

void sim_file_read(struct sim_handle *handle, uint64_t offset, uint32_t size, uint64_t token)
{
    struct op *op = op_new(handle, SIM_FILE_READ, token);
    op->offset = offset;
    op->size = size;
}

uint32_t sim_disk_pending(const struct sim_disk *disk)
{
    return disk->pending;
}

static void write_complete(struct sim_disk *disk, struct inode *inode, struct op *op)
{
    struct dirty *write = op->write;
    op->write = NULL;
    write->sequence = ++disk->sequence;
    list_push_back(&inode->writes, &write->link);
    content_write(&inode->cache, write->offset, write->bytes, write->size);
}

/* A sector-wise lottery over one write, applied to the durable content. */
struct lottery {
    bool keep, drop, garble; /* what may happen */
};

static void write_lottery(struct prng *prng, struct content *durable, const struct dirty *write,
                          struct lottery may)
{
    uint64_t at = write->offset;
    const uint64_t end = write->offset + write->size;
    while (at < end) {
        const uint64_t sector_end = (at / SIM_SECTOR_SIZE + 1) * SIM_SECTOR_SIZE;
        const uint64_t stop = sector_end < end ? sector_end : end;
        const uint64_t draw = prng_below(prng, 8);
        if (may.garble && draw == 0) {
            uint8_t garbage[SIM_SECTOR_SIZE];
            prng_fill(prng, garbage, sizeof(garbage));
            content_write(durable, at, garbage, stop - at);
        } else if (may.keep && (!may.drop || draw < 5)) {
            content_write(durable, at, write->bytes + (at - write->offset), stop - at);
        }
        at = stop;
    }
}

/* Linux after a failed sync: some of it reached the disk, and nobody will try again. */
static void sync_failed(struct sim_disk *disk, struct inode *inode, uint64_t covers)
{
    LIST_FOREACH_SAFE(link, &inode->writes) {
        struct dirty *write = WR_CONTAINER_OF(link, struct dirty, link);
        if (write->sequence <= covers) {
            write_lottery(&disk->prng, &inode->durable, write, (struct lottery){true, true, false});
            list_remove(&write->link);
            wr_free(write);
        }
    }
}

static void op_complete(struct sim_disk *disk, struct op *op, struct sim_file_done *done)
{
    struct inode *inode = op->inode;
    done->result = fault(disk, op->kind);
    if (op->kind == SIM_FILE_WRITE) {
        const uint64_t end = op->offset + op->size;
        const uint64_t grow = end > inode->cache.size ? end - inode->cache.size : 0;
        if (grow > 0 && (grow > disk->capacity || sim_disk_used(disk) > disk->capacity - grow)) {
            done->result = WR_E_NOSPACE;
        }
        if (done->result == 0) {
            done->result = (int64_t)op->size;
            write_complete(disk, inode, op);
        }
    } else if (op->kind == SIM_FILE_SYNC) {
        if (done->result == 0) {
            make_durable(inode, op->covers);
        } else {
            sync_failed(disk, inode, op->covers);
        }
    } else if (done->result == 0) {
        struct buf *data = buf_new(op->size);
        data->size = (uint32_t)content_read(&inode->cache, op->offset, data->data, op->size);
        done->result = data->size;
        done->owned_data = data;
    }
}

bool sim_disk_step(struct sim_disk *disk, struct sim_file_done *ret_done)
{
    if (disk->pending == 0) {
        return false;
    }
    uint64_t nth = prng_below(&disk->prng, disk->pending);
    struct list *chosen = list_first(&disk->ops);
    while (nth-- > 0) {
        chosen = chosen->next;
    }
    struct inode *inode = WR_CONTAINER_OF(chosen, struct op, link)->inode;
    LIST_FOREACH(link, &disk->ops) {
        struct op *op = WR_CONTAINER_OF(link, struct op, link);
        if (op->inode == inode) {
            *ret_done = (struct sim_file_done){op->user, op->token, op->kind, 0, NULL};
            op_complete(disk, op, ret_done);
            op_free(disk, op);
            return true;
        }
    }
    WR_UNREACHABLE();
}

/* --- faults ------------------------------------------------------------ */

static void crash_names(struct sim_disk *disk)
{
    const bool ordered = prng_ratio(&disk->prng, 1, 2);
    bool dropping = false;
    LIST_FOREACH_SAFE(link, &disk->changes) {
        struct name_change *change = WR_CONTAINER_OF(link, struct name_change, link);
        const bool drop = prng_ratio(&disk->prng, 1, 3);
        dropping = ordered ? dropping || drop : drop;
        if (!dropping) {
            change_apply(&disk->durable_names, change);
        }
        change_free(change);
    }
    names_clear(&disk->names);
    for (size_t i = 0; i < disk->durable_names.count; i++) {
        names_set(&disk->names, disk->durable_names.items[i].path,
                  disk->durable_names.items[i].inode);
    }
}

void sim_disk_crash(struct sim_disk *disk)
{
    /* In flight: the kernel may have begun with any part of it. */
    LIST_FOREACH(link, &disk->ops) {
        struct op *op = WR_CONTAINER_OF(link, struct op, link);
        if (op->kind == SIM_FILE_WRITE) {
            write_complete(disk, op->inode, op);
        }
    }
    const uint64_t draw = prng_below(&disk->prng, 8);
    const struct lottery may = {draw != 0, draw != 1, draw >= 3};
    LIST_FOREACH_SAFE(inode_link, &disk->inodes) {
        struct inode *inode = WR_CONTAINER_OF(inode_link, struct inode, link);
        if (inode->size_dirty && prng_ratio(&disk->prng, 1, 2)) {
            content_resize(&inode->durable, inode->cache.size);
        }
        LIST_FOREACH_SAFE(link, &inode->writes) {
            struct dirty *write = WR_CONTAINER_OF(link, struct dirty, link);
            write_lottery(&disk->prng, &inode->durable, write, may);
            list_remove(&write->link);
            wr_free(write);
        }
        inode->size_dirty = false;
        content_copy(&inode->cache, &inode->durable);
    }
    drop_ops_and_handles(disk);
    crash_names(disk);
}

void sim_disk_kill(struct sim_disk *disk)
{
    LIST_FOREACH(link, &disk->ops) {
        struct op *op = WR_CONTAINER_OF(link, struct op, link);
        if (op->kind == SIM_FILE_WRITE) {
            if (prng_ratio(&disk->prng, 1, 2)) {
                break;
            }
            write_complete(disk, op->inode, op);
        }
    }
    drop_ops_and_handles(disk);
}

bool sim_disk_flip(struct sim_disk *disk, const char *path, uint64_t offset, uint8_t mask)
{
    struct inode *inode = names_find(&disk->names, path);
    WR_ASSERT(mask != 0);
    if (inode == NULL || offset >= inode->cache.size) {
        return false;
    }
    uint8_t byte;
    (void)content_read(&inode->cache, offset, &byte, 1);
    byte ^= mask;
    content_write(&inode->cache, offset, &byte, 1);
    if (offset < inode->durable.size) {
        (void)content_read(&inode->durable, offset, &byte, 1);
        byte ^= mask;
        content_write(&inode->durable, offset, &byte, 1);
    }
    return true;
}

void sim_disk_put(struct sim_disk *disk, const char *path, const void *data, size_t size)
{
    struct inode *inode = inode_new(disk);
    if (size > 0) {
        content_write(&inode->cache, 0, data, size);
        content_write(&inode->durable, 0, data, size);
    }
    names_set(&disk->names, path, inode);
    names_set(&disk->durable_names, path, inode);
    inode_unref(inode);
}

static struct buf *content_get(const struct content *c)
{
    struct buf *b = buf_new(c->size);
    b->size = (uint32_t)content_read(c, 0, b->data, c->size);
    return b;
}

struct buf *sim_disk_get(struct sim_disk *disk, const char *path)
{
    struct inode *inode = names_find(&disk->names, path);
    return inode == NULL ? NULL : content_get(&inode->cache);
}

struct buf *sim_disk_get_durable(struct sim_disk *disk, const char *path)
{
    struct inode *inode = names_find(&disk->durable_names, path);
    return inode == NULL ? NULL : content_get(&inode->durable);
}

uint32_t sim_disk_unsynced(const struct sim_disk *disk)
{
    uint32_t count = 0;
    LIST_FOREACH(link, &disk->inodes) {
        const struct inode *inode = WR_CONTAINER_OF_CONST(link, struct inode, link);
        LIST_FOREACH(at, &inode->writes) {
            count++;
        }
    }
    LIST_FOREACH(link, &disk->ops) {
        count += WR_CONTAINER_OF_CONST(link, struct op, link)->kind == SIM_FILE_WRITE ? 1 : 0;
    }
    return count;
}

uint64_t sim_disk_read_durable(struct sim_disk *disk, const char *path, uint64_t offset, void *out,
                               uint64_t size)
{
    const struct inode *inode = names_find(&disk->durable_names, path);
    return inode == NULL ? 0 : content_read(&inode->durable, offset, out, size);
}

uint32_t sim_disk_hash(const struct sim_disk *disk)
{
    uint32_t crc = 0;
    for (size_t i = 0; i < disk->names.count; i++) {
        const struct name *name = &disk->names.items[i];
        crc = crc32c(crc, name->path, strlen(name->path));
        crc = content_hash(&name->inode->cache, crc);
    }
    for (size_t i = 0; i < disk->durable_names.count; i++) {
        const struct name *name = &disk->durable_names.items[i];
        crc = crc32c(crc, name->path, strlen(name->path));
        crc = content_hash(&name->inode->durable, crc);
    }
    return crc;
}
