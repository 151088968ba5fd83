#ifndef WR_TEST_OS_RIG_H
#define WR_TEST_OS_RIG_H
/*
 * A real os_node in a temporary directory, with one sink per context. A test fills in the upcalls
 * it uses; those it does not expect fail the test. It starts its work in the first turn of a
 * context and ends with rig_done().
 */
#include "warren/env.h"
#include "warren/os.h"

#define RIG_SHARDS_MAX 4

struct rig {
    struct os_node *os;
    struct logger logger;
    char dir[128];
    uint32_t shards;
    uint32_t warnings; /* lines logged at warning or above; any thread: __atomic */
    char last[512];    /* ... and the last of them */
    uint32_t hangups;  /* SIGHUPs that shard 0 was told of */
};

/* What rig_sink returns has every upcall that is NULL in `partial` replaced by one that aborts. */
struct env_sink rig_sink(struct env_sink partial);
void rig_init(struct rig *rig, uint32_t shards);
void rig_init_tls(struct rig *rig, uint32_t shards, const struct os_tls_options *tls);
struct env *rig_env(struct rig *rig, uint32_t context);
/* Sets the sink of one context; the others get one that does nothing but take mail never. */
void rig_set(struct rig *rig, uint32_t context, const struct env_sink *sink, void *ctx);
int rig_run(struct rig *rig);
void rig_deinit(struct rig *rig); /* frees the node and removes the directory */
void rig_done(struct env *env, int code);
void rig_path(const struct rig *rig, const char *name, char path[256]);
/* Listens on a free port of 127.0.0.1. */
uint16_t rig_listen(struct env *env, enum env_listener kind);
struct net_addr rig_addr(const char *host, uint16_t port);
/* Always on, unlike what a test framework offers to other threads. */
#define RIG_CHECK(x) ((x) ? (void)0 : rig_fail(#x, __FILE__, __LINE__))
__attribute__((noreturn)) void rig_fail(const char *what, const char *file, int line);

#endif
