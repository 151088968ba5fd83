/* The files around a node: lock, identity, note, event log. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rig.h"
#include "warren/bytes.h"
#include "warren/err.h"
#include "warren/mem.h"

static char errmsg[512];

static void write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    cr_assert_geq(fputs(text, file), 0);
    cr_assert_eq(fclose(file), 0);
}

static void expect_text(const char *path, const char *expected)
{
    char *text = NULL;
    size_t size = 0;
    cr_assert_eq(os_read_file(path, 10000, &text, &size, errmsg), 0, "%s", errmsg);
    cr_assert(bytes_eq_cstr(bytes_make(text, size), expected), "%.*s", (int)size, text);
    wr_free(text);
}

Test(data_dir, one_process_at_a_time)
{
    struct rig rig;
    char dir[256];
    int fd = -1;
    int second = -1;
    rig_init(&rig, 1);
    rig_path(&rig, "x/y/data", dir);
    cr_assert_eq(os_data_dir_lock(dir, &fd, errmsg), 0, "%s", errmsg);
    cr_assert_eq(os_data_dir_lock(dir, &second, errmsg), WR_E_INUSE);
    cr_assert(strstr(errmsg, "in use") != NULL);
    (void)close(fd);
    cr_assert_eq(os_data_dir_lock(dir, &second, errmsg), 0);
    (void)close(second);
    rig_path(&rig, "x/y/data/lock/z", dir);
    cr_assert_eq(os_data_dir_lock(dir, &fd, errmsg), WR_E_IO);
    rig_deinit(&rig);
}

Test(data_dir, an_identity_is_made_once_and_never_replaced)
{
    struct rig rig;
    char path[256];
    struct uid a, b;
    rig_init(&rig, 1);
    cr_assert_eq(os_data_dir_identity(rig.dir, &a, errmsg), 0, "%s", errmsg);
    cr_assert(!uid_is_zero(a));
    cr_assert_eq(os_data_dir_identity(rig.dir, &b, errmsg), 0);
    cr_assert(uid_eq(a, b));
    rig_path(&rig, "node.id", path);
    write_text(path, "0123456789abcdef");
    cr_assert_eq(os_data_dir_identity(rig.dir, &b, errmsg), WR_E_CORRUPT);
    write_text(path, "0123456789abcdefX123456789abcdef\n");
    cr_assert_eq(os_data_dir_identity(rig.dir, &b, errmsg), WR_E_CORRUPT);
    cr_assert_eq(unlink(path), 0);
    cr_assert_eq(os_data_dir_identity(rig.dir, &b, errmsg), WR_E_CORRUPT);
    cr_assert(strstr(errmsg, "holds a log") != NULL, "%s", errmsg);
    rig_deinit(&rig);
}

Test(data_dir, a_log_without_its_checkpoint_store_is_damaged_and_so_is_the_reverse)
{
    struct rig rig;
    char path[256];
    char current[256];
    struct uid id;
    rig_init(&rig, 1);
    cr_assert_eq(os_data_dir_identity(rig.dir, &id, errmsg), 0, "%s", errmsg);
    rig_path(&rig, "log/log", path);
    cr_assert_eq(mkdir(path, 0700), 0);
    cr_assert_eq(os_data_dir_identity(rig.dir, &id, errmsg), 0, "no segment yet: %s", errmsg);
    rig_path(&rig, "log/log/segment-0000000000000001.log", path);
    write_text(path, "x");
    cr_assert_eq(os_data_dir_identity(rig.dir, &id, errmsg), WR_E_CORRUPT);
    cr_assert(strstr(errmsg, "checkpoints/CURRENT is missing") != NULL, "%s", errmsg);
    rig_path(&rig, "checkpoints/CURRENT", current);
    write_text(current, "x");
    cr_assert_eq(os_data_dir_identity(rig.dir, &id, errmsg), 0, "%s", errmsg);
    cr_assert_eq(unlink(path), 0);
    rig_path(&rig, "log/log", path);
    cr_assert_eq(rmdir(path), 0);
    rig_path(&rig, "log", path);
    cr_assert_eq(rmdir(path), 0);
    cr_assert_eq(os_data_dir_identity(rig.dir, &id, errmsg), WR_E_CORRUPT);
    cr_assert(strstr(errmsg, "log is missing") != NULL, "%s", errmsg);
    rig_deinit(&rig);
}

Test(data_dir, a_log_that_was_begun_has_segments)
{
    struct rig rig;
    char path[256];
    struct uid id;
    rig_init(&rig, 1);
    cr_assert_eq(os_data_dir_identity(rig.dir, &id, errmsg), 0, "%s", errmsg);
    cr_assert_eq(os_data_dir_begun(rig.dir, errmsg), 0); /* nothing there yet: still a new one */
    cr_assert_eq(os_data_dir_identity(rig.dir, &id, errmsg), 0, "%s", errmsg);
    rig_path(&rig, "checkpoints/CURRENT", path);
    write_text(path, "x");
    rig_path(&rig, "log/log", path);
    cr_assert_eq(mkdir(path, 0700), 0);
    rig_path(&rig, "log/log/segment-0000000000000001.log", path);
    write_text(path, "x");
    cr_assert_eq(os_data_dir_begun(rig.dir, errmsg), 0);
    cr_assert_eq(os_data_dir_identity(rig.dir, &id, errmsg), 0, "%s", errmsg);
    cr_assert_eq(unlink(path), 0);
    rig_path(&rig, "log/log/spare-0000000000000001.log", path);
    write_text(path, "x");
    cr_assert_eq(os_data_dir_identity(rig.dir, &id, errmsg), WR_E_CORRUPT);
    cr_assert(strstr(errmsg, "segments in") != NULL, "%s", errmsg);
    rig_deinit(&rig);
}

Test(data_dir, what_cannot_be_looked_at_is_not_called_damaged)
{
    struct rig rig;
    char path[256];
    struct uid id;
    rig_init(&rig, 1);
    cr_assert_eq(os_data_dir_identity(rig.dir, &id, errmsg), 0, "%s", errmsg);
    rig_path(&rig, "checkpoints/CURRENT", path);
    cr_assert_eq(symlink(path, path), 0); /* ELOOP, for root too */
    cr_assert_eq(os_data_dir_identity(rig.dir, &id, errmsg), WR_E_PERMISSION);
    cr_assert(strstr(errmsg, "cannot look at") != NULL, "%s", errmsg);
    cr_assert(strstr(errmsg, "damaged") == NULL, "%s", errmsg);
    rig_deinit(&rig);
}

Test(data_dir, the_note_is_for_its_owner_and_goes_with_its_node)
{
    struct rig rig;
    char path[256];
    struct stat st;
    rig_init(&rig, 1);
    struct os_note note = {.home = rig.dir,
                           .node = "w1@h",
                           .host = "10.1.1.1",
                           .port = 25673,
                           .cookie = "geheim",
                           .node_id = {1, 2}};
    struct os_note later = note;
    bool replaced = true;
    later.node_id.lo = 3;
    later.port = 4;
    later.host = "";
    cr_assert_eq(os_note_write(&note, &replaced, errmsg), 0, "%s", errmsg);
    cr_assert_not(replaced);
    cr_assert_eq(os_note_write(&note, &replaced, errmsg), 0, "%s", errmsg);
    cr_assert_not(replaced, "its own");
    rig_path(&rig, ".warren/nodes/w1@h", path);
    expect_text(path, "distribution.listener.port_range.min = 25673\n"
                      "distribution.listener.interface = 10.1.1.1\nerlang.cookie = geheim\n"
                      "node.id = 00000000000000010000000000000002\n");
    cr_assert_eq(stat(path, &st), 0);
    cr_assert_eq(st.st_mode & 0777, 0600);
    cr_assert_eq(os_note_write(&later, &replaced, errmsg), 0);
    cr_assert(replaced);
    os_note_remove(&note); /* another node took the name over */
    expect_text(path, "distribution.listener.port_range.min = 4\n"
                      "distribution.listener.interface = localhost\nerlang.cookie = geheim\n"
                      "node.id = 00000000000000010000000000000003\n");
    os_note_remove(&later);
    cr_assert_neq(stat(path, &st), 0);
    os_note_remove(&later);
    rig_path(&rig, ".warren/nodes", path);
    cr_assert_eq(stat(path, &st), 0);
    cr_assert_eq(st.st_mode & 0777, 0700);
    note.home = NULL;
    cr_assert_eq(os_note_write(&note, &replaced, errmsg), WR_E_INVALID);
    note.home = rig.dir;
    note.node = "../w1@h";
    cr_assert_eq(os_note_write(&note, &replaced, errmsg), WR_E_INVALID);
    rig_deinit(&rig);
}

Test(data_dir, files_have_a_largest_size)
{
    struct rig rig;
    char path[256];
    char *text = NULL;
    size_t size = 0;
    rig_init(&rig, 1);
    rig_path(&rig, "f", path);
    cr_assert_eq(os_read_file(path, 5, &text, &size, errmsg), WR_E_NOTFOUND);
    write_text(path, "12345");
    cr_assert_eq(os_read_file(path, 5, &text, &size, errmsg), 0);
    cr_assert_eq(size, 5);
    wr_free(text);
    cr_assert_eq(os_read_file(path, 4, &text, &size, errmsg), WR_E_TOOBIG);
    rig_deinit(&rig);
}

static void expect_line(const char *line, const char *rest)
{
    unsigned year, month, day, hour, minute, second, micro;
    int used = 0;
    int n = sscanf(line, "%4u-%2u-%2u %2u:%2u:%2u.%6u %n", &year, &month, &day, &hour, &minute,
                   &second, &micro, &used);
    cr_assert_eq(n, 7, "%s", line);
    cr_assert_eq(strncmp(line + used, rest, strlen(rest)), 0, "%s", line + used);
}

Test(log_file, lines_have_rabbitmqs_form_and_follow_a_rotation)
{
    struct rig rig;
    char path[256];
    char moved[256];
    char *text = NULL;
    size_t size = 0;
    rig_init(&rig, 1);
    rig_path(&rig, "node.log", path);
    rig_path(&rig, "node.log.1", moved);
    struct os_log *log = os_log_open(path, false, errmsg);
    cr_assert_not_null(log);
    struct logger logger = {.sink = os_log_sink, .ctx = log, .level = LOG_LEVEL_INFO};
    wr_log(&logger, LOG_LEVEL_INFO, "part", "one n=%d", 1);
    wr_log(&logger, LOG_LEVEL_DEBUG, "part", "not this one");
    cr_assert_eq(rename(path, moved), 0);
    os_log_reopen(log);
    wr_log(&logger, LOG_LEVEL_ERROR, "part", "two");
    os_log_close(log);
    cr_assert_eq(os_read_file(moved, 1000, &text, &size, errmsg), 0);
    expect_line(text, "[info] <part> one n=1\n");
    cr_assert_eq(memchr(text, '\n', size), text + size - 1);
    wr_free(text);
    cr_assert_eq(os_read_file(path, 1000, &text, &size, errmsg), 0);
    expect_line(text, "[error] <part> two\n");
    wr_free(text);
    rig_path(&rig, "no/such/dir", path);
    cr_assert_null(os_log_open(path, false, errmsg));
    rig_deinit(&rig);
}
