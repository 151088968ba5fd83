/* The next step from the replicas a queue has to those that it is to have (src/node/replicas.c). */
#include <criterion/criterion.h>
#include <stdio.h>

#include "replicas.h"

#include "warren/catalog_settings.h"
#include "warren/prng.h"
#include "warren/wire_table.h"

#define NODES 5u

struct scene {
    struct catalog_node node[NODES];
    const struct catalog_node *nodes[NODES];
    char names[NODES][8];
    bool reachable[NODES];
    uint32_t count;
    struct catalog_queue queue;
    struct catalog_member members[CATALOG_REPLICAS_MAX];
    bool ready[NODES]; /* its replica, if it has one, is a voter and up to date */
    uint32_t leader;
    struct buf *listed;
    uint64_t ids;
};

static struct scene *scene_new(uint32_t replicas)
{
    struct scene *s = wr_calloc(1, sizeof *s);
    s->count = NODES;
    for (uint32_t i = 0; i < NODES; i++) {
        snprintf(s->names[i], sizeof s->names[i], "n%u", i);
        s->node[i].info.id = (struct uid){1, i + 1};
        s->node[i].info.name = bytes_from_cstr(s->names[i]);
        s->nodes[i] = &s->node[i];
        s->reachable[i] = s->ready[i] = true;
    }
    s->queue.spec.type = CATALOG_CLASSIC;
    s->queue.spec.run = CATALOG_RUN_GROUP;
    s->queue.spec.group.members = s->members;
    s->queue.spec.group.member_count = s->queue.spec.group.target_size = replicas;
    s->queue.spec.group.preferred = s->node[0].info.id;
    s->queue.replicas_version = 1;
    for (uint32_t i = 0; i < replicas; i++) {
        s->members[i] = (struct catalog_member){.id = {2, ++s->ids}, .node = s->node[i].info.id};
    }
    return s;
}

static void scene_free(struct scene *s)
{
    buf_unref(s->listed);
    wr_free(s);
}

static void wish_nodes(struct scene *s, uint32_t mask)
{
    struct writer w;
    writer_init(&w, 64);
    for (uint32_t i = 0; i < NODES; i++) {
        if (mask >> i & 1) {
            wire_value_put_longstr(&w, s->node[i].info.name);
        }
    }
    buf_unref(s->listed);
    s->listed = writer_take(&w);
    s->queue.settings.ha_mode = SETTINGS_HA_NODES;
    s->queue.settings.ha_nodes = bytes_make(s->listed->data, s->listed->size);
}

static uint32_t members_mask(const struct scene *s)
{
    uint32_t mask = 0;
    for (uint32_t i = 0; i < s->queue.spec.group.member_count; i++) {
        mask |= 1u << (s->members[i].node.lo - 1);
    }
    return mask;
}

static struct replicas_cluster cluster(const struct scene *s)
{
    return (struct replicas_cluster){s->nodes, s->reachable, s->count};
}

static void accept(struct scene *s, const struct replicas_step *step)
{
    memcpy(s->members, step->members, step->count * sizeof *step->members);
    s->queue.spec.group.member_count = step->count;
    s->queue.spec.group.preferred = step->preferred;
    s->queue.replicas_version++;
}

/* The group's leader is one of its members that are ready. */
static void lead(struct scene *s)
{
    const uint32_t mask = members_mask(s);
    for (uint32_t i = 0; i < NODES && !(mask >> s->leader & 1 && s->ready[s->leader]); i++) {
        s->leader = (s->leader + 1) % NODES;
    }
}

/* +1, -1: a step was taken; 0: none. */
static int step(struct scene *s)
{
    const struct replicas_cluster c = cluster(s);
    struct replicas_step next;
    struct uid ready[NODES];
    const uint32_t before = members_mask(s);
    struct queue_report report = {.replicas_version = s->queue.replicas_version, .ready = ready};
    lead(s);
    report.leader_node = s->node[s->leader].info.id;
    for (uint32_t i = 0; i < NODES; i++) {
        if (before >> i & 1 && s->ready[i] && s->reachable[i]) {
            ready[report.ready_count++] = s->node[i].info.id;
        }
    }
    if (replicas_grow(&s->queue, &c, &next)) {
        cr_assert_eq(next.count, s->queue.spec.group.member_count + 1);
        next.members[next.count - 1].id = (struct uid){2, ++s->ids};
        accept(s, &next);
        s->ready[__builtin_ctz(members_mask(s) & ~before)] = false; /* a learner */
        return 1;
    }
    if (!replicas_too_many(&s->queue, &c) || !replicas_shrink(&s->queue, &c, &report, &next)) {
        return 0;
    }
    cr_assert_eq(next.count + 1, s->queue.spec.group.member_count);
    accept(s, &next);
    uint32_t fit = 0;
    for (uint32_t i = 0; i < NODES; i++) {
        fit += members_mask(s) >> i & 1 && s->ready[i] && s->reachable[i];
    }
    cr_assert_gt(2 * fit, s->queue.spec.group.member_count);
    cr_assert(members_mask(s) >> (s->queue.spec.group.preferred.lo - 1) & 1);
    return -1;
}

static void settle(struct scene *s)
{
    for (uint32_t i = 0; i < 100; i++) {
        if (step(s) == 0) {
            if (members_mask(s) == 0) {
                break;
            }
            bool caught_up = false;
            for (uint32_t k = 0; k < NODES; k++) {
                caught_up = caught_up || (!s->ready[k] && s->reachable[k]);
                s->ready[k] = s->ready[k] || s->reachable[k];
            }
            if (!caught_up) {
                return;
            }
        }
    }
    cr_assert_fail("no end");
}

Test(replicas, from_one_to_all_and_back)
{
    struct scene *s = scene_new(1);
    s->queue.settings.ha_mode = SETTINGS_HA_ALL;
    settle(s);
    cr_assert_eq(members_mask(s), 31);
    s->queue.settings.ha_mode = SETTINGS_HA_EXACTLY;
    s->queue.settings.ha_count = 3;
    s->leader = 4;
    settle(s);
    cr_assert_eq(s->queue.spec.group.member_count, 3);
    cr_assert(members_mask(s) >> 4 & 1, "the leader went");
    s->queue.settings.ha_mode = SETTINGS_HA_NONE;
    settle(s);
    cr_assert_eq(members_mask(s), 1u << 4);
    cr_assert(uid_eq(s->queue.spec.group.preferred, s->node[4].info.id));
    scene_free(s);
}

Test(replicas, exactly_these_nodes)
{
    struct scene *s = scene_new(1);
    wish_nodes(s, 0x1c); /* 2, 3, 4: the leader goes, but only when another one can take over */
    cr_assert_eq(step(s), 1);
    cr_assert_eq(step(s), 1);
    cr_assert_eq(step(s), 1);
    cr_assert_eq(step(s), 0, "they are learners");
    settle(s);
    cr_assert_eq(members_mask(s), 0x1c);
    wish_nodes(s, 0);
    settle(s);
    cr_assert_eq(members_mask(s), 0x1c, "none of them exists: it stays where it is");
    scene_free(s);
}

Test(replicas, none_goes_while_the_others_could_not_go_on)
{
    struct scene *s = scene_new(3);
    s->queue.spec.group.target_size = 1;
    s->reachable[1] = s->reachable[2] = false;
    cr_assert_eq(step(s), 0);
    s->reachable[1] = true;
    s->ready[1] = false;
    cr_assert_eq(step(s), 0, "the other one is behind");
    s->ready[1] = true;
    cr_assert_eq(step(s), -1);
    cr_assert_eq(members_mask(s), 3, "who is away goes first");
    cr_assert_eq(step(s), -1);
    cr_assert_eq(members_mask(s), 1);
    scene_free(s);
}

Test(replicas, a_report_of_another_record_is_not_believed)
{
    struct scene *s = scene_new(3);
    const struct replicas_cluster c = cluster(s);
    struct replicas_step next;
    const struct uid ready[] = {s->node[0].info.id, s->node[1].info.id, s->node[2].info.id};
    struct queue_report report = {.leader_node = ready[0], .ready = ready, .ready_count = 3};
    s->queue.spec.group.target_size = 1;
    cr_assert_not(replicas_shrink(&s->queue, &c, &report, &next));
    report.replicas_version = s->queue.replicas_version;
    cr_assert(replicas_shrink(&s->queue, &c, &report, &next));
    scene_free(s);
}

Test(replicas, quorum_queues_grow_only)
{
    struct scene *s = scene_new(3);
    s->queue.spec.type = CATALOG_QUORUM;
    s->queue.settings.target_group_size = 5;
    settle(s);
    cr_assert_eq(members_mask(s), 31);
    s->queue.settings.target_group_size = 0;
    settle(s);
    cr_assert_eq(members_mask(s), 31);
    scene_free(s);
}

Test(replicas, any_wish_is_reached_from_any_state)
{
    for (uint64_t seed = 1; seed <= 2000; seed++) {
        struct prng prng;
        prng_init(&prng, seed);
        struct scene *s = scene_new(1 + (uint32_t)prng_below(&prng, NODES));
        for (uint32_t round = 0; round < 10; round++) {
            const uint32_t mask = (uint32_t)prng_below(&prng, 31) + 1;
            const uint32_t exactly = 1 + (uint32_t)prng_below(&prng, 7);
            s->queue.settings.ha_mode = (uint8_t)prng_below(&prng, 4);
            s->queue.settings.ha_count = exactly;
            if (s->queue.settings.ha_mode == SETTINGS_HA_NODES) {
                wish_nodes(s, mask);
            }
            for (uint32_t i = 0; i < 6; i++) { /* some steps with some of them away */
                s->reachable[prng_below(&prng, NODES)] = prng_ratio(&prng, 1, 2);
                s->ready[prng_below(&prng, NODES)] = prng_ratio(&prng, 1, 2);
                (void)step(s);
            }
            memset(s->reachable, true, sizeof s->reachable);
            memset(s->ready, true, sizeof s->ready);
            s->leader = (uint32_t)prng_below(&prng, NODES);
            settle(s);
            const uint32_t count = s->queue.spec.group.member_count;
            const uint32_t target = s->queue.spec.group.target_size;
            switch (s->queue.settings.ha_mode) {
            case SETTINGS_HA_ALL:
                cr_assert_eq(count, NODES);
                break;
            case SETTINGS_HA_EXACTLY:
                cr_assert_eq(count, exactly < NODES ? exactly : NODES);
                break;
            case SETTINGS_HA_NODES:
                cr_assert_eq(members_mask(s), mask);
                break;
            default:
                cr_assert_eq(count, target);
            }
        }
        scene_free(s);
    }
}
