/*
 * What: the sink of the node's event log: one line per event, appended to a file or stderr, with
 * local time to the microsecond in RabbitMQ's form. Lines are written with one write(2), so that
 * threads never mix within a line.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "warren/err.h"
#include "warren/mem.h"
#include "warren/os.h"

struct os_log {
    char *path;
    pthread_mutex_t mutex;
    int fd;
    bool console; /* to stderr as well as to the file */
};

struct os_log *os_log_open(const char *path, bool console, char *errmsg)
{
    int fd = STDERR_FILENO;
    if (path != NULL) {
        fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
        if (fd < 0) {
            (void)snprintf(errmsg, 256, "cannot open log file %.160s: %s", path, strerror(errno));
            return NULL;
        }
    }
    struct os_log *log = wr_calloc(1, sizeof *log);
    log->path = path == NULL ? NULL : wr_strdup(path);
    log->fd = fd;
    log->console = console && path != NULL;
    (void)pthread_mutex_init(&log->mutex, NULL);
    return log;
}

void os_log_reopen(struct os_log *log)
{
    if (log->path == NULL) {
        return;
    }
    int fd = open(log->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (fd >= 0) {
        (void)pthread_mutex_lock(&log->mutex);
        (void)close(log->fd);
        log->fd = fd;
        (void)pthread_mutex_unlock(&log->mutex);
    }
}

void os_log_close(struct os_log *log)
{
    if (log == NULL) {
        return;
    }
    if (log->path != NULL) {
        (void)close(log->fd);
    }
    (void)pthread_mutex_destroy(&log->mutex);
    wr_free(log->path);
    wr_free(log);
}

void os_log_sink(void *ctx, enum log_level level, const char *component, const char *line)
{
    struct os_log *log = ctx;
    char text[LOG_LINE_MAX + 128];
    struct timespec ts;
    struct tm tm;
    (void)clock_gettime(CLOCK_REALTIME, &ts);
    (void)localtime_r(&ts.tv_sec, &tm);
    size_t used = strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &tm);
    int n = snprintf(text + used, sizeof text - used, ".%06ld [%s] <%s> %s\n", ts.tv_nsec / 1000,
                     log_level_name(level), component, line);
    size_t size = used + (size_t)(n < 0 ? 0 : n);
    if (size >= sizeof text) {
        size = sizeof text - 1;
        text[size - 1] = '\n';
    }
    (void)pthread_mutex_lock(&log->mutex);
    ssize_t written = write(log->fd, text, size);
    /* What ends the node is told to whoever started it, too. */
    if (log->console || (log->path != NULL && level >= LOG_LEVEL_CRITICAL)) {
        written = write(STDERR_FILENO, text, size);
    }
    (void)written; /* a log that cannot be written must not stop the broker */
    (void)pthread_mutex_unlock(&log->mutex);
}
