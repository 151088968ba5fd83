/*
 * What: writes of RocksDB that meet a full disk wait until there is space.
 *
 * RocksDB goes on using a file of its own whose write has failed, which it takes for a fault of its
 * own: as Debian builds it, with assertions, it aborts the process. No look at the free space
 * before its writes helps for sure, since others may fill the disk meanwhile, and it writes in
 * threads of its own, too. So write() and pwrite() of this process are ours, also for the
 * libraries: those of a file below the checkpoint store's folder that fail for lack of space are
 * made again until they do not; all others are the system's. Not under ThreadSanitizer, whose own
 * write() tells it what is ordered by one: there RocksDB aborts as it does by itself.
 *
 * Failure modes: what waits keeps its thread, and the flush or write that we wait for; others of
 * RocksDB's may wait for that. Ends of the process do not: once it is told to leave, the first
 * thread that would wait ends it.
 *
 * Threads: any.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "os_internal.h"

#define LOOK_AGAIN_NS 100000000L

_Static_assert(sizeof(long) == sizeof(off_t), "an offset is one argument of a system call");

static struct {
    char dir[4096];  /* with a slash */
    size_t dir_size; /* 0: there is no store */
    const struct logger *logger;
    pthread_mutex_t lock;
    uint32_t waiting;  /* threads; under the lock, with what is told of the first and the last */
    _Atomic int leave; /* exit code + 1; 0: stay */
} space = {.lock = PTHREAD_MUTEX_INITIALIZER};

void os_kv_space_watch(const char *dir, const struct logger *logger)
{
    char real[4096];
    space.dir_size = 0;
    (void)mkdir(dir, 0750);
    if (realpath(dir, real) != NULL) {
        const int n = snprintf(space.dir, sizeof space.dir, "%s/", real);
        space.dir_size = n > 0 && (size_t)n < sizeof space.dir ? (size_t)n : 0;
    }
    space.logger = logger;
    atomic_store(&space.leave, 0);
}

void os_kv_space_leave(int exit_code)
{
    atomic_store(&space.leave, exit_code + 1);
}

#ifndef __SANITIZE_THREAD__

static bool is_of_store(int fd)
{
    char link[48];
    char path[sizeof space.dir];
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const ssize_t n = readlink(link, path, sizeof path);
    return space.dir_size > 0 && n > (ssize_t)space.dir_size &&
           memcmp(path, space.dir, space.dir_size) == 0;
}

static void wait_for_space(void)
{
    const struct timespec pause = {.tv_nsec = LOOK_AGAIN_NS};
    const int leave = atomic_load(&space.leave);
    if (leave != 0) {
        wr_log(space.logger, LOG_LEVEL_WARNING, "checkpoint_store",
               "the node ends while writes wait for space on the device");
        _exit(leave - 1); /* its thread can neither go on nor be joined */
    }
    (void)nanosleep(&pause, NULL);
}

static void begin_waiting(void)
{
    (void)pthread_mutex_lock(&space.lock);
    if (space.waiting++ == 0) {
        wr_log(space.logger, LOG_LEVEL_ERROR, "checkpoint_store",
               "no space left on the device: writes wait until there is some, and no segment of "
               "the log is released meanwhile: make room");
    }
    (void)pthread_mutex_unlock(&space.lock);
}

static void end_waiting(void)
{
    (void)pthread_mutex_lock(&space.lock);
    if (--space.waiting == 0) {
        wr_log(space.logger, LOG_LEVEL_WARNING, "checkpoint_store",
               "there is space again: writes go on");
    }
    (void)pthread_mutex_unlock(&space.lock);
}

/* Of a write that has failed: true when it is to be made again. */
static bool is_to_wait(int fd)
{
    const int error = errno;
    const bool waits = (error == ENOSPC || error == EDQUOT) && is_of_store(fd);
    errno = error;
    return waits;
}

static ssize_t write_at_last(long number, int fd, const void *data, size_t size, off_t offset)
{
    ssize_t n = syscall(number, fd, data, size, offset);
    if (n >= 0 || !is_to_wait(fd)) {
        return n;
    }
    begin_waiting();
    do {
        wait_for_space();
        n = syscall(number, fd, data, size, offset);
    } while (n < 0 && is_to_wait(fd));
    const int error = errno;
    end_waiting();
    errno = error;
    return n;
}

/* By their names for the linker, since unistd.h may have another one for pwrite(). */
ssize_t kv_space_write(int fd, const void *data, size_t size) __asm__("write");
ssize_t kv_space_pwrite(int fd, const void *data, size_t size, off_t offset) __asm__("pwrite");

ssize_t kv_space_write(int fd, const void *data, size_t size)
{
    return write_at_last(SYS_write, fd, data, size, 0); /* the kernel does not look at the offset */
}

ssize_t kv_space_pwrite(int fd, const void *data, size_t size, off_t offset)
{
    return write_at_last(SYS_pwrite64, fd, data, size, offset);
}

#endif
