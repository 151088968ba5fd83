/*
 * What: files for the shared log and cold reads.
 *
 * Happy path: the log context calls file_write and file_sync, which block in its own thread (that
 * is what the thread is for) and complete through os_complete in the same turn's end. Shards call
 * file_read, which runs on the thread pool; the completed job waits in context->reads until
 * file_take fetches its buffer.
 *
 * Failure modes: errors come back as WR_E_* in the completion; short writes are continued; EINTR is
 * retried. A failed fdatasync is reported once and never repeated here: the log stops the node.
 *
 * Threads: an env_file may be read from a pool thread while its context goes on; it is closed only
 * when no read is in flight (count).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include "warren/err.h"
#include "warren/mem.h"

#include "os_internal.h"

struct env_file {
    struct os_context *context;
    int fd;
    _Atomic uint32_t reads; /* in flight, plus one while open */
};

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int os_dir_list(struct env *env, const char *dir, char ***ret_names, uint32_t *ret_count)
{
    (void)env;
    DIR *d = opendir(dir);
    if (d == NULL) {
        return os_error(-errno);
    }
    VEC(char *) names = {0};
    struct dirent *entry;
    while (errno = 0, (entry = readdir(d)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            vec_push(&names, wr_strdup(entry->d_name));
        }
    }
    int error = errno;
    (void)closedir(d);
    if (error != 0) { /* half a listing would look like lost files */
        for (size_t i = 0; i < names.count; i++) {
            wr_free(names.items[i]);
        }
        vec_deinit(&names);
        return os_error(-error);
    }
    if (names.count > 1) {
        qsort(names.items, names.count, sizeof(char *), compare_names);
    }
    *ret_names = names.items;
    *ret_count = (uint32_t)names.count;
    return 0;
}

static int os_dir_make(struct env *env, const char *dir)
{
    char path[PATH_MAX];
    (void)env;
    if ((size_t)snprintf(path, sizeof path, "%s", dir) >= sizeof path) {
        return WR_E_TOOBIG;
    }
    for (char *at = path + 1;; at++) {
        if (*at == '/' || *at == 0) {
            char kept = *at;
            *at = 0;
            if (mkdir(path, 0750) != 0 && errno != EEXIST) {
                return os_error(-errno);
            }
            *at = kept;
            if (kept == 0) {
                return 0;
            }
        }
    }
}

static int os_dir_sync(struct env *env, const char *dir)
{
    (void)env;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return os_error(-errno);
    }
    int rc = fsync(fd) == 0 ? 0 : os_error(-errno);
    (void)close(fd);
    return rc;
}

static int os_file_open(struct env *env, const char *path, uint32_t flags,
                        struct env_file **ret_file)
{
    int mode = (flags & ENV_OPEN_WRITE) != 0 ? O_RDWR : O_RDONLY;
    if ((flags & ENV_OPEN_CREATE) != 0) {
        mode |= O_CREAT;
    }
    if ((flags & ENV_OPEN_EXCLUSIVE) != 0) {
        mode |= O_EXCL;
    }
    int fd = open(path, mode | O_CLOEXEC, 0640);
    if (fd < 0) {
        return os_error(-errno);
    }
    struct env_file *file = wr_calloc(1, sizeof *file);
    file->context = os_context_of(env);
    file->fd = fd;
    atomic_init(&file->reads, 1);
    *ret_file = file;
    return 0;
}

static int os_file_size(struct env_file *file, uint64_t *ret_size)
{
    struct stat st;
    if (fstat(file->fd, &st) != 0) {
        return os_error(-errno);
    }
    *ret_size = (uint64_t)st.st_size;
    return 0;
}

static int os_file_allocate(struct env_file *file, uint64_t size)
{
    int rc;
    do {
        rc = posix_fallocate(file->fd, 0, (off_t)size);
    } while (rc == EINTR);
    return rc == 0 ? 0 : os_error(-rc);
}

static int os_file_truncate(struct env_file *file, uint64_t size)
{
    return ftruncate(file->fd, (off_t)size) == 0 ? 0 : os_error(-errno);
}

static int64_t read_fully(int fd, void *data, size_t size, uint64_t offset)
{
    size_t done = 0;
    while (done < size) {
        ssize_t n = pread(fd, (uint8_t *)data + done, size - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return os_error(-errno);
        }
        if (n == 0) {
            break;
        }
        done += (size_t)n;
    }
    return (int64_t)done;
}

static int64_t os_file_pread(struct env_file *file, void *data, size_t size, uint64_t offset)
{
    return read_fully(file->fd, data, size, offset);
}

static int64_t write_slices(int fd, const struct slice *slices, uint32_t count, uint64_t offset)
{
    struct iovec iov[256];
    uint64_t total = 0;
    uint32_t i = 0;
    uint32_t skip = 0; /* bytes of slices[i] already written */
    while (i < count) {
        int n = 0;
        for (uint32_t k = i; k < count && n < (int)WR_ARRAY_SIZE(iov); k++, n++) {
            uint32_t from = k == i ? skip : 0;
            iov[n].iov_base = (void *)(uintptr_t)(slice_data(&slices[k]) + from);
            iov[n].iov_len = slices[k].size - from;
        }
        ssize_t written = pwritev(fd, iov, n, (off_t)(offset + total));
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written < 0) {
            return os_error(-errno);
        }
        total += (uint64_t)written;
        uint64_t left = (uint64_t)written;
        uint32_t before = i;
        while (i < count && left >= slices[i].size - skip) {
            left -= slices[i].size - skip;
            skip = 0;
            i++;
        }
        skip += (uint32_t)left;
        if (written == 0 && i == before) {
            return WR_E_IO; /* no error and no progress: not to be tried for ever */
        }
    }
    return (int64_t)total;
}

static void os_file_write(struct env_file *file, struct slice *owned, uint32_t count,
                          uint64_t offset, uint64_t token)
{
    int64_t result = write_slices(file->fd, owned, count, offset);
    for (uint32_t i = 0; i < count; i++) {
        slice_unref(&owned[i]);
    }
    os_complete(file->context,
                (struct os_done){.kind = OS_DONE_FILE, .token = token, .result = result});
}

static void os_file_sync(struct env_file *file, uint64_t token)
{
    int64_t result = fdatasync(file->fd) == 0 ? 0 : os_error(-errno);
    os_complete(file->context,
                (struct os_done){.kind = OS_DONE_FILE, .token = token, .result = result});
}

static void file_release(struct env_file *file)
{
    if (atomic_fetch_sub(&file->reads, 1) == 1) {
        (void)close(file->fd);
        wr_free(file);
    }
}

struct read_job {
    struct os_work work;
    struct list link; /* context->reads when done */
    struct env_file *file;
    struct buf *buf;
    uint64_t offset, token;
    uint32_t size;
    int64_t result;
};

static void read_run(struct os_work *work)
{
    struct read_job *job = (struct read_job *)(void *)work;
    job->result = job->buf == NULL
                      ? WR_E_NOMEM
                      : read_fully(job->file->fd, job->buf->data, job->size, job->offset);
}

static void read_finish(struct os_work *work)
{
    struct read_job *job = (struct read_job *)(void *)work;
    struct os_context *context = work->context;
    uint64_t token = job->token;
    int64_t result = job->result;
    if (result >= 0) {
        job->buf->size = (uint32_t)result;
    } else {
        buf_unref(job->buf);
        job->buf = NULL;
    }
    file_release(job->file);
    if (!os_is_silent(context)) {
        list_push_front(&context->reads, &job->link); /* the first: file_take finds this one */
        context->sink->on_file(context->sink_ctx, token, result);
        list_remove(&job->link);
    }
    buf_unref(job->buf); /* what was not taken in the upcall is not wanted */
    wr_free(job);
}

static void os_file_read(struct env *env, struct env_file *file, uint64_t offset, uint32_t size,
                         uint64_t token)
{
    struct read_job *job = wr_calloc(1, sizeof *job);
    list_init(&job->link);
    job->work.run = read_run;
    job->work.finish = read_finish;
    job->file = file;
    job->buf = buf_try_new(size);
    job->offset = offset;
    job->size = size;
    job->token = token;
    (void)atomic_fetch_add(&file->reads, 1);
    os_work_start(os_context_of(env), &job->work);
}

static struct buf *os_file_take(struct env *env, uint64_t token)
{
    struct os_context *context = os_context_of(env);
    LIST_FOREACH(link, &context->reads) {
        struct read_job *job = WR_CONTAINER_OF(link, struct read_job, link);
        if (job->token == token) {
            struct buf *buf = job->buf;
            job->buf = NULL;
            return buf;
        }
    }
    return NULL;
}

static int os_file_unlink(struct env *env, const char *path)
{
    (void)env;
    return unlink(path) == 0 ? 0 : os_error(-errno);
}

static int os_file_rename(struct env *env, const char *from, const char *to)
{
    (void)env;
    return rename(from, to) == 0 ? 0 : os_error(-errno);
}

static void os_file_close(struct env_file *file)
{
    file_release(file);
}

static int os_disk_free(struct env *env, const char *dir, uint64_t *ret_bytes)
{
    struct statvfs vfs;
    (void)env;
    if (statvfs(dir, &vfs) != 0) {
        return os_error(-errno);
    }
    *ret_bytes = (uint64_t)vfs.f_bavail * (uint64_t)vfs.f_frsize;
    return 0;
}

/* On disk, and out of the page cache: what is read afterwards comes from the disk. Blocking. */
static int os_file_settle(struct env_file *file)
{
    if (fdatasync(file->fd) != 0) {
        return os_error(-errno);
    }
    int rc = posix_fadvise(file->fd, 0, 0, POSIX_FADV_DONTNEED);
    return rc == 0 ? 0 : os_error(-rc);
}

void os_file_ops(struct env_ops *ops)
{
    ops->dir_list = os_dir_list;
    ops->dir_make = os_dir_make;
    ops->dir_sync = os_dir_sync;
    ops->file_open = os_file_open;
    ops->file_size = os_file_size;
    ops->file_allocate = os_file_allocate;
    ops->file_truncate = os_file_truncate;
    ops->file_pread = os_file_pread;
    ops->file_write = os_file_write;
    ops->file_sync = os_file_sync;
    ops->file_read = os_file_read;
    ops->file_take = os_file_take;
    ops->file_unlink = os_file_unlink;
    ops->file_rename = os_file_rename;
    ops->file_close = os_file_close;
    ops->file_settle = os_file_settle;
    ops->disk_free = os_disk_free;
}
