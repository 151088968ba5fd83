/* See scene.h. */
#include "scene.h"

struct scene scene_new(uint64_t seed, uint32_t shards, uint32_t pub_node, uint32_t con_node)
{
    struct scene s;
    s.c = cluster_new(seed, 3, shards);
    s.t = wr_calloc(1, sizeof *s.t);
    s.u = wr_calloc(2, sizeof *s.u);
    s.queue = cluster_declare(s.c, "q", (uint32_t[]){0, 1, 2}, 3, -1);
    user_open(&s.u[0], s.c, pub_node, 0, s.queue, s.t);
    user_open(&s.u[1], s.c, con_node, shards - 1, s.queue, s.t);
    user_consume(&s.u[1], 1, 0, 20, UINT64_MAX);
    return s;
}

void scene_free(struct scene *s)
{
    user_close(&s->u[0]);
    user_close(&s->u[1]);
    cluster_settle(s->c, 500);
    cluster_free(s->c);
    wr_free(s->u);
    wr_free(s->t);
}

void scene_steps(struct scene *s, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (!cluster_step(s->c)) {
            cluster_sleep(s->c, 10);
        }
    }
}

void scene_finish(struct scene *s)
{
    cr_assert(cluster_run(s->c, all_confirmed, &s->u[0], 30000), "%u of %u confirmed",
              s->t->confirmed_count, s->t->published);
    cr_assert(cluster_run(s->c, all_settled, s->t, 30000), "%u of %u settled", s->t->settled_count,
              s->t->published);
}
