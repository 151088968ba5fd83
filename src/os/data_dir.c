/*
 * What: the files around a node: reading its configuration, the lock and the identity of its data
 * directory, and the note that tells warrenctl where it listens. Everything blocks; it is used
 * before and after the node runs.
 *
 * Failure modes: text in errmsg[512] and WR_E_*. A half-written identity or note is impossible:
 * both are written aside and renamed.
 *
 * Spec: docs/configuration.md, docs/warrenctl.md.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "warren/bytes.h"
#include "warren/err.h"
#include "warren/mem.h"
#include "warren/os.h"

#define PATH_SIZE 1400
#define NOTE_SIZE 1200
/* node.c says the same of a damaged log. */
#define WHAT_TO_DO                                                                                 \
    "Restore it from a backup, or remove the whole data directory and let this node join the "     \
    "cluster as a new one, under another name"

__attribute__((format(printf, 3, 4))) static int failed(char *errmsg, int code, const char *format,
                                                        ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(errmsg, 512, format, args);
    va_end(args);
    return code;
}

int os_read_file(const char *path, size_t size_max, char **ret_text, size_t *ret_size, char *errmsg)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return failed(errmsg, WR_E_NOTFOUND, "cannot open %.300s: %s", path, strerror(errno));
    }
    char *text = wr_alloc(size_max + 1);
    size_t size = fread(text, 1, size_max + 1, file);
    bool broken = ferror(file) != 0;
    (void)fclose(file);
    if (broken || size > size_max) {
        wr_free(text);
        return failed(errmsg, broken ? WR_E_IO : WR_E_TOOBIG, "cannot read %.300s: %s", path,
                      broken ? "read error" : "the file is too large");
    }
    *ret_text = text;
    *ret_size = size;
    return 0;
}

/* mkdir -p; 0 or a negative errno. */
static int make_dirs(const char *dir, mode_t mode)
{
    char path[PATH_SIZE];
    if (dir[0] == 0 || (size_t)snprintf(path, sizeof path, "%s", dir) >= sizeof path) {
        return -ENAMETOOLONG;
    }
    for (char *at = path + 1;; at++) {
        if (*at == '/' || *at == 0) {
            char kept = *at;
            *at = 0;
            if (mkdir(path, mode) != 0 && errno != EEXIST) {
                return -errno;
            }
            *at = kept;
            if (kept == 0) {
                return 0;
            }
        }
    }
}

/* Writes a file aside, syncs it and puts it in place; 0 or a negative errno. */
static int write_file(const char *path, const char *text, mode_t mode)
{
    char aside[PATH_SIZE + 8];
    size_t size = strlen(text);
    (void)snprintf(aside, sizeof aside, "%s.new", path);
    int fd = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    if (fd < 0) {
        return -errno;
    }
    bool ok = fchmod(fd, mode) == 0 && write(fd, text, size) == (ssize_t)size && fsync(fd) == 0;
    int error = ok ? 0 : errno != 0 ? -errno : -EIO;
    if (close(fd) != 0 && error == 0) {
        error = -errno;
    }
    if (error == 0 && rename(aside, path) != 0) {
        error = -errno;
    }
    if (error != 0) {
        (void)unlink(aside);
    }
    return error;
}

static int sync_dir(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    int error = fsync(fd) == 0 ? 0 : -errno;
    (void)close(fd);
    return error;
}

/* --- data directory --------------------------------------------------------------------------- */

int os_data_dir_lock(const char *dir, int *ret_fd, char *errmsg)
{
    char path[PATH_SIZE];
    int rc = make_dirs(dir, 0750);
    if (rc != 0) {
        return failed(errmsg, WR_E_IO, "cannot make data directory %.300s: %s", dir, strerror(-rc));
    }
    (void)snprintf(path, sizeof path, "%s/lock", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (fd < 0) {
        return failed(errmsg, WR_E_IO, "cannot open %.300s: %s", path, strerror(errno));
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        (void)close(fd);
        return failed(errmsg, WR_E_INUSE, "data directory %.300s is in use by another process",
                      dir);
    }
    *ret_fd = fd;
    return 0;
}

static int make_identity(const char *dir, const char *path, struct uid *ret_id, char *errmsg)
{
    struct uid id;
    char text[64];
    if (getrandom(&id, sizeof id, 0) != (ssize_t)sizeof id) {
        return failed(errmsg, WR_E_IO, "no random numbers to be had from the system");
    }
    (void)snprintf(text, sizeof text, "%016llx%016llx\n", (unsigned long long)id.hi,
                   (unsigned long long)id.lo);
    int rc = write_file(path, text, 0640);
    if (rc == 0) {
        rc = sync_dir(dir);
    }
    if (rc != 0) {
        return failed(errmsg, WR_E_IO, "cannot write %.300s: %s", path, strerror(-rc));
    }
    *ret_id = id;
    return 0;
}

/* Whether the log holds files whose names begin so. */
static bool holds_files(const char *dir, const char *prefix)
{
    char path[PATH_SIZE];
    (void)snprintf(path, sizeof path, "%s/log/log", dir);
    DIR *segments = opendir(path);
    bool found = false;
    if (segments == NULL) {
        return false;
    }
    for (struct dirent *entry = readdir(segments); entry != NULL && !found;
         entry = readdir(segments)) {
        found = entry->d_name[0] != '.' && strncmp(entry->d_name, prefix, strlen(prefix)) == 0;
    }
    (void)closedir(segments);
    return found;
}

/* Notes that the log has its first segment: a log without any is damaged from then on. */
int os_data_dir_begun(const char *dir, char *errmsg)
{
    char path[PATH_SIZE];
    struct stat st;
    (void)snprintf(path, sizeof path, "%s/log.begun", dir);
    if (stat(path, &st) == 0 || !holds_files(dir, "segment-")) {
        return 0;
    }
    int rc = write_file(path, "", 0640);
    if (rc == 0) {
        rc = sync_dir(dir);
    }
    return rc == 0 ? 0 : failed(errmsg, WR_E_IO, "cannot write %.300s: %s", path, strerror(-rc));
}

/* An emptied log looks like one that was never begun: the node would found a new cluster, or vote
 * as one that has forgotten its votes. */
static int check_segments(const char *dir, char *errmsg)
{
    char path[PATH_SIZE];
    struct stat st;
    (void)snprintf(path, sizeof path, "%s/log.begun", dir);
    if (stat(path, &st) == 0 && !holds_files(dir, "segment-")) {
        return failed(errmsg, WR_E_CORRUPT,
                      "the segments in %.300s/log/log are missing: the data directory is "
                      "damaged. " WHAT_TO_DO,
                      dir);
    }
    return os_data_dir_begun(dir, errmsg);
}

/* 1 or 0, or why that cannot be told. */
static int is_there(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? 1 : errno == ENOENT ? 0 : -errno;
}

/* The log and the checkpoint store belong together: each holds what the other has let go of. Both
 * directories are made durably before anything is in them, and the store before the first segment,
 * so that no crash leaves one that looks as if the other had been taken away. */
static int check_parts(const char *dir, char *errmsg)
{
    char log_dir[PATH_SIZE];
    char store[PATH_SIZE];
    (void)snprintf(log_dir, sizeof log_dir, "%s/log", dir);
    (void)snprintf(store, sizeof store, "%s/checkpoints/CURRENT", dir);
    int has_store = is_there(store);
    int has_log = is_there(log_dir);
    if (has_store < 0 || has_log < 0) { /* not damaged: nothing is to be removed */
        return failed(errmsg, WR_E_PERMISSION, "cannot look at %.300s: %s",
                      has_store < 0 ? store : log_dir,
                      strerror(has_store < 0 ? -has_store : -has_log));
    }
    if (has_store ? !has_log : holds_files(dir, "")) {
        return failed(errmsg, WR_E_CORRUPT,
                      "%.300s is missing but the directory holds %s: the data directory is "
                      "damaged. " WHAT_TO_DO,
                      has_store ? log_dir : store, has_store ? "a checkpoint store" : "a log");
    }
    (void)snprintf(store, sizeof store, "%s/checkpoints", dir);
    int rc = make_dirs(log_dir, 0750);
    if (rc == 0) {
        rc = make_dirs(store, 0750);
    }
    if (rc == 0) {
        rc = sync_dir(dir);
    }
    return rc == 0 ? check_segments(dir, errmsg)
                   : failed(errmsg, WR_E_IO, "cannot make the directories in %.300s: %s", dir,
                            strerror(-rc));
}

/* A directory with a log but without identity is damaged: a new identity would make this node a
 * stranger to the groups whose votes its log holds. */
int os_data_dir_identity(const char *dir, struct uid *ret_id, char *errmsg)
{
    char path[PATH_SIZE];
    char text[40] = {0};
    struct stat st;
    (void)snprintf(path, sizeof path, "%s/node.id", dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t n = read(fd, text, sizeof text - 1);
        (void)close(fd);
        if (n < 32 || uid_parse(bytes_make(text, 32), ret_id) != 0) {
            return failed(errmsg, WR_E_CORRUPT,
                          "%.300s is damaged: expected 32 hexadecimal digits. " WHAT_TO_DO, path);
        }
        return check_parts(dir, errmsg);
    }
    if (errno != ENOENT) {
        return failed(errmsg, WR_E_IO, "cannot open %.300s: %s", path, strerror(errno));
    }
    char log_dir[PATH_SIZE];
    (void)snprintf(log_dir, sizeof log_dir, "%s/log", dir);
    if (stat(log_dir, &st) == 0) {
        return failed(errmsg, WR_E_CORRUPT,
                      "%.300s is missing but the directory holds a log: the data directory is "
                      "damaged. " WHAT_TO_DO,
                      path);
    }
    int rc = make_identity(dir, path, ret_id, errmsg);
    return rc == 0 ? check_parts(dir, errmsg) : rc;
}

/* --- the note for warrenctl ------------------------------------------------------------------- */

static bool note_path(const struct os_note *note, char path[PATH_SIZE])
{
    if (note->home == NULL || note->home[0] == 0 || strchr(note->node, '/') != NULL) {
        return false;
    }
    return (size_t)snprintf(path, PATH_SIZE, "%s/.warren/nodes/%s", note->home, note->node) <
           PATH_SIZE;
}

static void note_text(const struct os_note *note, char text[NOTE_SIZE])
{
    char id[UID_TEXT_SIZE];
    (void)snprintf(text, NOTE_SIZE,
                   "distribution.listener.port_range.min = %u\n"
                   "distribution.listener.interface = %s\n"
                   "erlang.cookie = %s\n"
                   "node.id = %s\n",
                   note->port, note->host[0] == 0 ? "localhost" : note->host, note->cookie,
                   uid_format(note->node_id, id));
}

static bool is_of_another(const struct os_note *note, const char *path)
{
    char line[16 + UID_TEXT_SIZE];
    char id[UID_TEXT_SIZE];
    char errmsg[512];
    char *there = NULL;
    size_t size = 0;
    if (os_read_file(path, NOTE_SIZE, &there, &size, errmsg) != 0) {
        return false;
    }
    (void)snprintf(line, sizeof line, "node.id = %s\n", uid_format(note->node_id, id));
    const bool another = memmem(there, size, line, strlen(line)) == NULL;
    wr_free(there);
    return another;
}

int os_note_write(const struct os_note *note, bool *ret_replaced, char *errmsg)
{
    char path[PATH_SIZE];
    char dir[PATH_SIZE];
    char text[NOTE_SIZE];
    if (!note_path(note, path)) {
        return failed(errmsg, WR_E_INVALID,
                      "HOME is not set, or the node's name cannot be that of a file");
    }
    (void)snprintf(dir, sizeof dir, "%s", path);
    *strrchr(dir, '/') = 0;
    note_text(note, text);
    *ret_replaced = is_of_another(note, path);
    int rc = make_dirs(dir, 0700);
    if (rc == 0) {
        rc = write_file(path, text, 0600);
    }
    return rc == 0 ? 0 : failed(errmsg, WR_E_IO, "cannot write %.300s: %s", path, strerror(-rc));
}

void os_note_remove(const struct os_note *note)
{
    char path[PATH_SIZE];
    char text[NOTE_SIZE];
    char errmsg[512];
    char *there = NULL;
    size_t size = 0;
    if (!note_path(note, path) || os_read_file(path, NOTE_SIZE, &there, &size, errmsg) != 0) {
        return;
    }
    note_text(note, text);
    if (bytes_eq_cstr(bytes_make(there, size),
                      text)) { /* otherwise another node took the name over */
        (void)unlink(path);
    }
    wr_free(there);
}
