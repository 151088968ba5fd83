#ifndef WR_STORAGE_SCAN_H
#define WR_STORAGE_SCAN_H
/* Reading a log directory at start: verify, report, find the end (docs/storage.md, "Recovery"). */
#include "format.h"
#include "warren/vec.h"

VEC_TYPE(number_vec, uint32_t);

struct scan_segment {
    uint32_t number; /* 0 = none */
    uint64_t salt;
    uint64_t size;         /* of the file */
    uint32_t offset;       /* where the next round goes */
    struct env_file *file; /* open for reading and writing; owned by who has the result */
};

struct scan_result {
    uint32_t first;                       /* lowest segment; 0 = there is none */
    struct scan_segment active, prepared; /* prepared: the one after active, still empty */
    uint64_t last_round;                  /* number of the last valid round; 0 = none */
    struct number_vec spares;
};

/* WR_E_CORRUPT, WR_E_VERSION, WR_E_IO with text in errmsg[256]; the result is then empty. What is
 * in the two last segments is on the disk when this returns 0. */
WR_MUST_USE int scan_log(struct env *env, const char *log_dir, struct uid node_id,
                         const struct log_recovery_sink *sink, struct scan_result *ret_result,
                         char *errmsg);
void scan_result_deinit(struct env *env, struct scan_result *result);

#endif
