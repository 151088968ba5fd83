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
#include "sim_file_internal.h"

#include <stdio.h>
#include <string.h>

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
    sim__inode_unref(op->inode);
    wr_free(op);
}

void sim__drop_ops_and_handles(struct sim_disk *disk)
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
    sim__drop_ops_and_handles(disk);
    LIST_FOREACH_SAFE(link, &disk->changes) {
        sim__change_free(WR_CONTAINER_OF(link, struct name_change, link));
    }
    sim__names_clear(&disk->names);
    sim__names_clear(&disk->durable_names);
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
    if (!sim__dir_exists(disk, dir)) {
        return WR_E_NOTFOUND;
    }
    VEC(char *) found;
    vec_init(&found);
    for (size_t i = 0; i < disk->names.count; i++) {
        if (sim__in_dir(disk->names.items[i].path, dir)) {
            vec_push(&found, wr_strdup(disk->names.items[i].path + strlen(dir) + 1));
        }
    }
    *ret_names = found.items != NULL ? found.items : wr_alloc(1);
    *ret_count = (uint32_t)found.count;
    return 0;
}

int sim_dir_make(struct sim_disk *disk, const char *dir)
{
    if (!sim__dir_exists(disk, dir)) {
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
        if (sim__in_dir(change->set != NULL ? change->set : change->remove, dir)) {
            sim__change_apply(&disk->durable_names, change);
            sim__change_free(change);
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
    struct inode *inode = sim__names_find(&disk->names, path);
    if (inode != NULL && (flags & ENV_OPEN_EXCLUSIVE) != 0) {
        return WR_E_EXISTS;
    }
    if (inode == NULL) {
        if ((flags & ENV_OPEN_CREATE) == 0) {
            return WR_E_NOTFOUND;
        }
        inode = sim__inode_new(disk);
        sim__change_names(disk, NULL, path, inode);
        sim__inode_unref(inode);
    }
    struct sim_handle *handle = wr_calloc(1, sizeof(*handle));
    handle->disk = disk;
    handle->inode = sim__inode_ref(inode);
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
        sim__inode_unref(owned_handle->inode);
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
        sim__content_resize(&inode->cache, size);
        inode->size_dirty = true;
    }
    return 0;
}

int sim_file_truncate(struct sim_handle *handle, uint64_t size)
{
    sim__content_resize(&handle->inode->cache, size);
    handle->inode->size_dirty = true;
    return 0;
}

int64_t sim_file_pread(struct sim_handle *handle, void *data, size_t size, uint64_t offset)
{
    const int error = fault(handle->disk, SIM_FILE_READ);
    if (error != 0) {
        return error;
    }
    return (int64_t)sim__content_read(&handle->inode->cache, offset, data, size);
}

/* Writes up to `covers` become durable and are no longer dirty. */
static void make_durable(struct inode *inode, uint64_t covers)
{
    if (inode->size_dirty) {
        sim__content_resize(&inode->durable, inode->cache.size);
        inode->size_dirty = false;
    }
    LIST_FOREACH_SAFE(link, &inode->writes) {
        struct dirty *write = WR_CONTAINER_OF(link, struct dirty, link);
        if (write->sequence <= covers) {
            sim__content_write(&inode->durable, write->offset, write->bytes, write->size);
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
    sim__content_copy(&handle->inode->cache, &handle->inode->durable);
    return 0;
}

int sim_file_unlink(struct sim_disk *disk, const char *path)
{
    const int error = fault(disk, SIM_FILE_UNLINK);
    if (error != 0) {
        return error;
    }
    struct inode *inode = sim__names_find(&disk->names, path);
    if (inode == NULL) {
        return WR_E_NOTFOUND;
    }
    sim__change_names(disk, path, NULL, inode);
    return 0;
}

int sim_file_rename(struct sim_disk *disk, const char *from, const char *to)
{
    const int error = fault(disk, SIM_FILE_RENAME);
    if (error != 0) {
        return error;
    }
    struct inode *inode = sim__names_find(&disk->names, from);
    if (inode == NULL) {
        return WR_E_NOTFOUND;
    }
    sim__change_names(disk, from, to, inode);
    return 0;
}

/* --- asynchronous ------------------------------------------------------------ */

static struct op *op_new(struct sim_handle *handle, enum sim_file_op kind, uint64_t token)
{
    struct op *op = wr_calloc(1, sizeof(*op));
    op->inode = sim__inode_ref(handle->inode);
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

void sim__write_complete(struct sim_disk *disk, struct inode *inode, struct op *op)
{
    struct dirty *write = op->write;
    op->write = NULL;
    write->sequence = ++disk->sequence;
    list_push_back(&inode->writes, &write->link);
    sim__content_write(&inode->cache, write->offset, write->bytes, write->size);
}

/* Applied to the durable content sector by sector, by chance. */
void sim__write_lottery(struct prng *prng, struct content *durable, const struct dirty *write,
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
            sim__content_write(durable, at, garbage, stop - at);
        } else if (may.keep && (!may.drop || draw < 5)) {
            sim__content_write(durable, at, write->bytes + (at - write->offset), stop - at);
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
            sim__write_lottery(&disk->prng, &inode->durable, write,
                               (struct lottery){true, true, false});
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
            sim__write_complete(disk, inode, op);
        }
    } else if (op->kind == SIM_FILE_SYNC) {
        if (done->result == 0) {
            make_durable(inode, op->covers);
        } else {
            sync_failed(disk, inode, op->covers);
        }
    } else if (done->result == 0) {
        struct buf *data = buf_new(op->size);
        data->size = (uint32_t)sim__content_read(&inode->cache, op->offset, data->data, op->size);
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
