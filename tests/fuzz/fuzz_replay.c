/*
 * What: runs a fuzz target without libFuzzer, so that every build can replay the corpora as a test:
 *     replay-wire-table corpus/table [more files or folders]
 * Each file is one input. Besides the files themselves, every prefix of each and a number of random
 * mutations (fixed seed) are tried.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "fuzz.h"

#include "warren/bytes.h"
#include "warren/prng.h"

#define INPUT_SIZE_MAX (1u << 20)
#define MUTATIONS      2000

static uint64_t runs;

/* A copy of exactly the size, so that a sanitizer sees any read past the end. */
static void run(const uint8_t *data, size_t size)
{
    uint8_t *copy = wr_memdup(data, size);
    LLVMFuzzerTestOneInput(copy, size);
    wr_free(copy);
    runs++;
}

static void mutate(struct prng *p, uint8_t *data, size_t size)
{
    const uint64_t changes = prng_between(p, 1, 4);
    for (uint64_t i = 0; i < changes; i++) {
        uint8_t *at = &data[prng_below(p, size)];
        *at =
            prng_ratio(p, 1, 3) ? (uint8_t)(*at ^ (1u << prng_below(p, 8))) : (uint8_t)prng_u64(p);
    }
}

static void run_input(const uint8_t *data, size_t size)
{
    struct prng p;
    prng_init(&p, size);
    run(data, size);
    for (size_t cut = 0; cut < size && cut < 4096; cut++) {
        run(data, cut);
    }
    if (size == 0) {
        return;
    }
    uint8_t *changed = wr_alloc(size);
    for (int i = 0; i < MUTATIONS; i++) {
        memcpy(changed, data, size);
        mutate(&p, changed, size);
        run(changed, prng_ratio(&p, 1, 4) ? prng_below(&p, size + 1) : size);
    }
    wr_free(changed);
}

static void run_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        fprintf(stderr, "cannot open %s\n", path);
        exit(2);
    }
    uint8_t *data = wr_alloc(INPUT_SIZE_MAX);
    const size_t size = fread(data, 1, INPUT_SIZE_MAX, file);
    fclose(file);
    run_input(data, size);
    wr_free(data);
}

static void run_path(const char *path)
{
    struct stat info;
    if (stat(path, &info) != 0 || !S_ISDIR(info.st_mode)) {
        run_file(path);
        return;
    }
    struct dirent **entries;
    const int count = scandir(path, &entries, NULL, alphasort);
    if (count < 0) {
        fprintf(stderr, "cannot read %s\n", path);
        exit(2);
    }
    for (int i = 0; i < count; i++) {
        if (entries[i]->d_name[0] != '.') {
            char file[4096];
            snprintf(file, sizeof(file), "%s/%s", path, entries[i]->d_name);
            run_file(file);
        }
        free(entries[i]);
    }
    free(entries);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        run_path(argv[i]);
    }
    printf("%llu inputs\n", (unsigned long long)runs);
    return runs > 0 ? 0 : 2;
}
