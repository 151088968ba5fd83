/* What the files of the cluster know of each other: cluster.c, cluster_host.c, cluster_log.c. */
#ifndef WR_TEST_RAFT_CLUSTER_INTERNAL_H
#define WR_TEST_RAFT_CLUSTER_INTERNAL_H

#include "cluster.h"

/* cluster_log.c */
struct blob *sim__blob_new(struct sim *s, const uint8_t *bytes, uint32_t size);
void sim__blob_unref(void *ctx, void *owner);
void sim__log_push(struct sim_log *l, const struct sim_entry *e);
void sim__log_cut_from(struct sim_log *l, uint64_t from);
void sim__log_cut_to(struct sim_log *l, uint64_t index);
void sim__log_free(struct sim_log *l);
struct raft_entry sim__as_raft(const struct sim_entry *e);
struct raft_payload_ops sim__payload_ops(struct sim *s);

/* cluster_host.c: a turn's worth of work */
void sim__process(struct sim *s, uint64_t id, const struct raft_update *u);

/* cluster.c: a copy of the message is on its way */
void sim__message_add(struct sim *s, const struct raft_message *m);

#endif
