#ifndef WR_NODE_H
#define WR_NODE_H
/*
 * One node composed from envs and a configuration (docs/architecture.md, "A node"). The two
 * composition roots are src/main.c (real envs) and tests/sim (simulated ones); both do the same:
 * node_new with the envs of all contexts (recovery happens here, blocking), hand each context's
 * sink to its env, run, node_free.
 */
#include "warren/bytes.h"
#include "warren/env.h"
#include "warren/logger.h"
#include "warren/uid.h"

struct node;
struct config;

struct node_options {
    const struct config *config; /* borrowed for the node's life; shards is resolved (not 0) */
    struct logger *logger;       /* borrowed; its level may be changed (set_log_level) */
    struct env **envs;           /* shard 0.. shards-1, then the log context; borrowed */
    struct uid node_id;          /* this data directory's identity */
    /* The file of the event log is to be opened anew. NULL: there is none. Shard 0's context. */
    void (*reopen_log)(void *ctx);
    void *reopen_ctx;
};
/* Opens the log, recovers every group, builds all contexts. WR_E_* with text in errmsg[512]. */
int node_new(const struct node_options *options, struct node **ret_node, char *errmsg);
void node_free(struct node *node); /* after no context runs any more */
/* The sink of a context and its ctx pointer. */
const struct env_sink *node_sink(struct node *node, uint32_t context, void **ret_ctx);
/* Orderly stop: closes clients, hands leadership over, then env->stop(0). Call in shard 0's
 * context. */
void node_stop(struct node *node, const char *why);

#endif
