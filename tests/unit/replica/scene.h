#ifndef WR_TEST_SCENE_H
#define WR_TEST_SCENE_H
/* A queue with three replicas, the one on node 0 preferred, with a publisher and a consumer that
 * acks. */
#include "users.h"

struct scene {
    struct test_cluster *c;
    struct traffic *t;
    struct user *u; /* 0: publisher, 1: consumer */
    uint64_t queue;
};

struct scene scene_new(uint64_t seed, uint32_t shards, uint32_t pub_node, uint32_t con_node);
void scene_free(struct scene *s);
/* So many things are done, wherever; time passes when there is nothing. */
void scene_steps(struct scene *s, uint32_t count);
/* Until all that was published is confirmed and settled. */
void scene_finish(struct scene *s);
#endif
