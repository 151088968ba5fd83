/*
 * What: how much memory the process has resident, how much there is for it, and giving back what
 * the allocator keeps.
 *
 * What there is: the least of the machine's memory and of the limits of every cgroup from ours up
 * to the root, versions 1 and 2. In a container the path of our cgroup is often not visible: then
 * its limit is that of the root of what is mounted, which is looked at in any case.
 *
 * Failure modes: a file that is not there, or says "max", is no limit. Threads: any.
 */
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "warren/err.h"
#include "warren/mem.h"

#include "os_internal.h"

#define TEXT_MAX       8192
#define MMAP_THRESHOLD (4 << 20)
#define TRIM_THRESHOLD (32 << 20)

struct trim_job {
    struct os_work work;
    uint64_t token, least;
    int result;
};

/* The beginning of a small file, as text; "" when there is none. */
static void read_text(const char *path, char text[TEXT_MAX])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t size = 0;
    while (fd >= 0 && size < TEXT_MAX - 1) {
        ssize_t n = read(fd, text + size, TEXT_MAX - 1 - size);
        if (n <= 0) {
            break;
        }
        size += (size_t)n;
    }
    text[size] = '\0';
    if (fd >= 0) {
        (void)close(fd);
    }
}

static int env_memory_used(struct env *env, uint64_t *ret_bytes)
{
    char text[TEXT_MAX];
    unsigned long long pages[2];
    (void)env;
    read_text("/proc/self/statm", text);
    if (sscanf(text, "%llu %llu", &pages[0], &pages[1]) != 2) {
        return WR_E_UNSUPPORTED;
    }
    *ret_bytes = pages[1] * (uint64_t)sysconf(_SC_PAGESIZE);
    return 0;
}

/* --- cgroups ---------------------------------------------------------------------------------- */

static uint64_t limit_in(const char *path)
{
    char text[TEXT_MAX];
    char *end = text;
    read_text(path, text);
    unsigned long long limit = strtoull(text, &end, 10);
    return end == text || limit == 0 ? UINT64_MAX : limit;
}

/* The least limit of the cgroup at `path` below `mount` and of all above it. */
static uint64_t least_limit(const char *mount, const char *path, const char *file)
{
    uint64_t least = UINT64_MAX;
    char at[1024];
    char name[1400];
    (void)snprintf(at, sizeof at, "%s", path);
    for (;;) {
        (void)snprintf(name, sizeof name, "%s%s/%s", mount, strcmp(at, "/") == 0 ? "" : at, file);
        uint64_t limit = limit_in(name);
        least = limit < least ? limit : least;
        char *slash = strrchr(at, '/');
        if (slash == NULL) {
            return least;
        }
        *slash = '\0';
    }
}

static bool has_word(const char *list, const char *word)
{
    size_t size = strlen(word);
    for (const char *at = list; (at = strstr(at, word)) != NULL; at += size) {
        if ((at == list || at[-1] == ',') && (at[size] == ',' || at[size] == '\0')) {
            return true;
        }
    }
    return false;
}

/* Lines "number:controllers:path"; version 2 has number 0 and no controllers. */
static uint64_t cgroup_limit(void)
{
    char text[TEXT_MAX];
    uint64_t least = UINT64_MAX;
    char *next = NULL;
    read_text("/proc/self/cgroup", text);
    for (char *line = text; line != NULL; line = next) {
        char *end = strchr(line, '\n');
        next = end == NULL ? NULL : end + 1;
        if (end != NULL) {
            *end = '\0';
        }
        char *controllers = strchr(line, ':');
        char *path = controllers == NULL ? NULL : strchr(controllers + 1, ':');
        uint64_t limit = UINT64_MAX;
        if (path == NULL) {
            continue;
        }
        *path++ = '\0';
        controllers++;
        if (controllers[0] == '\0') {
            limit = least_limit("/sys/fs/cgroup", path, "memory.max");
        } else if (has_word(controllers, "memory")) {
            limit = least_limit("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes");
        }
        least = limit < least ? limit : least;
    }
    return least;
}

static int env_memory_total(struct env *env, uint64_t *ret_bytes)
{
    struct sysinfo info;
    (void)env;
    if (sysinfo(&info) != 0) {
        return WR_E_UNSUPPORTED;
    }
    uint64_t machine = (uint64_t)info.totalram * info.mem_unit;
    uint64_t cgroup = cgroup_limit();
    *ret_bytes = cgroup < machine ? cgroup : machine;
    return 0;
}

/*
 * glibc raises the size from which memory is mapped on its own, and so goes back when it is freed,
 * to that of what was freed last, up to 32 MiB: after a few large messages all of them would lie in
 * the heap and leave holes there. Fixed, what is larger than any entry of small messages goes back
 * at once. The other threshold would be lowered by that and is put back to what it would have
 * become.
 */
void os_memory_init(void)
{
    (void)mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD);
    (void)mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD);
}

/* --- giving back ------------------------------------------------------------------------------ */

static void trim_run(struct os_work *work)
{
    struct trim_job *job = (struct trim_job *)(void *)work;
    job->result = job->least > 0 && mallinfo2().fordblks < job->least;
    if (job->result == 0) {
        (void)malloc_trim(0);
    }
}

static void trim_finish(struct os_work *work)
{
    struct trim_job *job = (struct trim_job *)(void *)work;
    struct os_context *context = work->context;
    if (!os_is_silent(context)) {
        context->sink->on_exec(context->sink_ctx, job->token, job->result);
    }
    wr_free(job);
}

static void env_memory_trim(struct env *env, uint64_t least, uint64_t token)
{
    struct trim_job *job = wr_calloc(1, sizeof *job);
    job->work.run = trim_run;
    job->work.finish = trim_finish;
    job->token = token;
    job->least = least;
    os_work_start(os_context_of(env), &job->work);
}

void os_memory_ops(struct env_ops *ops)
{
    ops->memory_used = env_memory_used;
    ops->memory_total = env_memory_total;
    ops->memory_trim = env_memory_trim;
}
