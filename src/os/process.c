/*
 * What: what the system knows of this process, for warrenctl's status.
 * Failure modes: without /proc there is no answer. Threads: any.
 */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "warren/err.h"

#include "os_internal.h"

static uint64_t count_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    uint64_t count = 0;
    if (dir == NULL) {
        return 0;
    }
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        count += entry->d_name[0] != '.';
    }
    (void)closedir(dir);
    return count - 1; /* the one that read them */
}

static int env_process(struct env *env, struct env_process *ret)
{
    struct env_process p = {.pid = (uint64_t)getpid(), .descriptors = count_descriptors()};
    FILE *file = fopen("/proc/self/status", "re");
    char line[256];
    unsigned long long kib;
    if (file == NULL) {
        return WR_E_UNSUPPORTED;
    }
    while (fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "RssAnon: %llu kB", &kib) == 1) {
            p.memory_anonymous = kib * 1024;
        } else if (sscanf(line, "RssFile: %llu kB", &kib) == 1 ||
                   sscanf(line, "RssShmem: %llu kB", &kib) == 1) {
            p.memory_files += kib * 1024;
        }
    }
    (void)fclose(file);
    p.descriptors_max = os_context_of(env)->node->descriptors_max;
    p.descriptors_clients = os_descriptors_for(os_context_of(env)->node, ENV_LISTEN_AMQP);
    *ret = p;
    return 0;
}

void os_process_ops(struct env_ops *ops)
{
    ops->process = env_process;
}
