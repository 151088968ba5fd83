/* What crashes and damage make of a simulated disk, and what is on it. See sim_file.c. */
#include "sim_file_internal.h"

#include <string.h>

#include "warren/crc32c.h"

static void crash_names(struct sim_disk *disk)
{
    const bool ordered = prng_ratio(&disk->prng, 1, 2);
    bool dropping = false;
    LIST_FOREACH_SAFE(link, &disk->changes) {
        struct name_change *change = WR_CONTAINER_OF(link, struct name_change, link);
        const bool drop = prng_ratio(&disk->prng, 1, 3);
        dropping = ordered ? dropping || drop : drop;
        if (!dropping) {
            sim__change_apply(&disk->durable_names, change);
        }
        sim__change_free(change);
    }
    sim__names_clear(&disk->names);
    for (size_t i = 0; i < disk->durable_names.count; i++) {
        sim__names_set(&disk->names, disk->durable_names.items[i].path,
                       disk->durable_names.items[i].inode);
    }
}

void sim_disk_crash(struct sim_disk *disk)
{
    /* In flight: the kernel may have begun with any part of it. */
    LIST_FOREACH(link, &disk->ops) {
        struct op *op = WR_CONTAINER_OF(link, struct op, link);
        if (op->kind == SIM_FILE_WRITE) {
            sim__write_complete(disk, op->inode, op);
        }
    }
    const uint64_t draw = prng_below(&disk->prng, 8);
    const struct lottery may = {draw != 0, draw != 1, draw >= 3};
    LIST_FOREACH_SAFE(inode_link, &disk->inodes) {
        struct inode *inode = WR_CONTAINER_OF(inode_link, struct inode, link);
        if (inode->size_dirty && prng_ratio(&disk->prng, 1, 2)) {
            sim__content_resize(&inode->durable, inode->cache.size);
        }
        LIST_FOREACH_SAFE(link, &inode->writes) {
            struct dirty *write = WR_CONTAINER_OF(link, struct dirty, link);
            sim__write_lottery(&disk->prng, &inode->durable, write, may);
            list_remove(&write->link);
            wr_free(write);
        }
        inode->size_dirty = false;
        sim__content_copy(&inode->cache, &inode->durable);
    }
    sim__drop_ops_and_handles(disk);
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
            sim__write_complete(disk, op->inode, op);
        }
    }
    sim__drop_ops_and_handles(disk);
}

bool sim_disk_flip(struct sim_disk *disk, const char *path, uint64_t offset, uint8_t mask)
{
    struct inode *inode = sim__names_find(&disk->names, path);
    WR_ASSERT(mask != 0);
    if (inode == NULL || offset >= inode->cache.size) {
        return false;
    }
    uint8_t byte;
    (void)sim__content_read(&inode->cache, offset, &byte, 1);
    byte ^= mask;
    sim__content_write(&inode->cache, offset, &byte, 1);
    if (offset < inode->durable.size) {
        (void)sim__content_read(&inode->durable, offset, &byte, 1);
        byte ^= mask;
        sim__content_write(&inode->durable, offset, &byte, 1);
    }
    return true;
}

void sim_disk_put(struct sim_disk *disk, const char *path, const void *data, size_t size)
{
    struct inode *inode = sim__inode_new(disk);
    if (size > 0) {
        sim__content_write(&inode->cache, 0, data, size);
        sim__content_write(&inode->durable, 0, data, size);
    }
    sim__names_set(&disk->names, path, inode);
    sim__names_set(&disk->durable_names, path, inode);
    sim__inode_unref(inode);
}

static struct buf *content_get(const struct content *c)
{
    struct buf *b = buf_new(c->size);
    b->size = (uint32_t)sim__content_read(c, 0, b->data, c->size);
    return b;
}

struct buf *sim_disk_get(struct sim_disk *disk, const char *path)
{
    struct inode *inode = sim__names_find(&disk->names, path);
    return inode == NULL ? NULL : content_get(&inode->cache);
}

struct buf *sim_disk_get_durable(struct sim_disk *disk, const char *path)
{
    struct inode *inode = sim__names_find(&disk->durable_names, path);
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
    const struct inode *inode = sim__names_find(&disk->durable_names, path);
    return inode == NULL ? 0 : sim__content_read(&inode->durable, offset, out, size);
}

uint32_t sim_disk_hash(const struct sim_disk *disk)
{
    uint32_t crc = 0;
    for (size_t i = 0; i < disk->names.count; i++) {
        const struct name *name = &disk->names.items[i];
        crc = crc32c(crc, name->path, strlen(name->path));
        crc = sim__content_hash(&name->inode->cache, crc);
    }
    for (size_t i = 0; i < disk->durable_names.count; i++) {
        const struct name *name = &disk->durable_names.items[i];
        crc = crc32c(crc, name->path, strlen(name->path));
        crc = sim__content_hash(&name->inode->durable, crc);
    }
    return crc;
}
