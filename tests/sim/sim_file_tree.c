/* What a simulated disk holds: contents, inodes, and names with their changes. See sim_file.c. */
#include "sim_file_internal.h"

#include <string.h>

#include "warren/crc32c.h"

/* --- content ------------------------------------------------------------ */

void sim__content_write(struct content *c, uint64_t offset, const uint8_t *bytes, uint64_t size)
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

void sim__content_resize(struct content *c, uint64_t size)
{
    c->size = size;
    c->stored = c->stored < size ? c->stored : size;
}

uint64_t sim__content_read(const struct content *c, uint64_t offset, uint8_t *out, uint64_t size)
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

void sim__content_copy(struct content *to, const struct content *from)
{
    to->stored = 0;
    to->size = 0;
    if (from->stored > 0) {
        sim__content_write(to, 0, from->bytes, from->stored);
    }
    to->size = from->size;
}

uint32_t sim__content_hash(const struct content *c, uint32_t crc)
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

struct inode *sim__inode_ref(struct inode *inode)
{
    inode->refs++;
    return inode;
}

void sim__inode_unref(struct inode *inode)
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

struct inode *sim__inode_new(struct sim_disk *disk)
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

struct inode *sim__names_find(const struct name_vec *names, const char *path)
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
        sim__inode_unref(name.inode);
    }
}

void sim__names_set(struct name_vec *names, const char *path, struct inode *inode)
{
    (void)sim__inode_ref(inode);
    names_remove(names, path);
    bool found;
    const size_t at = names_position(names, path, &found);
    vec_insert(names, at, (struct name){wr_strdup(path), inode});
}

void sim__names_clear(struct name_vec *names)
{
    for (size_t i = 0; i < names->count; i++) {
        wr_free(names->items[i].path);
        sim__inode_unref(names->items[i].inode);
    }
    vec_clear(names);
}

void sim__change_apply(struct name_vec *names, const struct name_change *change)
{
    if (change->remove != NULL) {
        names_remove(names, change->remove);
    }
    if (change->set != NULL) {
        sim__names_set(names, change->set, change->inode);
    }
}

void sim__change_free(struct name_change *change)
{
    list_remove(&change->link);
    wr_free(change->remove);
    wr_free(change->set);
    sim__inode_unref(change->inode);
    wr_free(change);
}

/* Changes the names as seen and notes the change for the durable ones. */
void sim__change_names(struct sim_disk *disk, const char *removed, const char *set,
                       struct inode *inode)
{
    struct name_change *change = wr_calloc(1, sizeof(*change));
    change->remove = removed == NULL ? NULL : wr_strdup(removed);
    change->set = set == NULL ? NULL : wr_strdup(set);
    change->inode = sim__inode_ref(inode);
    list_push_back(&disk->changes, &change->link);
    sim__change_apply(&disk->names, change);
}

bool sim__in_dir(const char *path, const char *dir)
{
    const size_t size = strlen(dir);
    return strncmp(path, dir, size) == 0 && path[size] == '/' &&
           strchr(path + size + 1, '/') == NULL;
}

bool sim__dir_exists(const struct sim_disk *disk, const char *dir)
{
    for (size_t i = 0; i < disk->dirs.count; i++) {
        if (strcmp(disk->dirs.items[i], dir) == 0) {
            return true;
        }
    }
    return false;
}
