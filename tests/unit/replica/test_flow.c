/* Back-pressure of queue clients: what they have pending together, when their queue is stuck. */
#include "client_internal.h"
#include "host_internal.h"
#include "users.h"

#define PUBLISHERS 40u
#define BODY       100000u

struct scene {
    struct test_cluster *c;
    struct traffic *t;
    struct user *u; /* the last one publishes to the queue that works */
    uint64_t stuck, works;
};

/* Node 0 leads both queues; the one with members elsewhere then has no majority. */
static void scene_init(struct scene *s)
{
    s->c = cluster_new(7, 3, 1);
    s->t = wr_calloc(2, sizeof *s->t);
    s->u = wr_calloc(PUBLISHERS + 1, sizeof *s->u);
    s->stuck = cluster_declare(s->c, "stuck", (uint32_t[]){0, 1, 2}, 3, -1);
    s->works = cluster_declare(s->c, "works", (uint32_t[]){0}, 1, -1);
    for (uint32_t i = 0; i <= PUBLISHERS; i++) {
        bool last = i == PUBLISHERS;
        user_open(&s->u[i], s->c, 0, 0, last ? s->works : s->stuck, &s->t[last]);
        user_publish(&s->u[i], 1, 100);
        cr_assert(cluster_run(s->c, all_confirmed, &s->u[i], 5000));
    }
    cr_assert_eq(cluster_leader(s->c, s->stuck), 0);
}

static void scene_free(struct scene *s)
{
    for (uint32_t i = 0; i <= PUBLISHERS; i++) {
        user_close(&s->u[i]);
    }
    cluster_settle(s->c, 500);
    cr_assert_eq(cluster_host(s->c, 0, 0)->client_bytes, 0);
    cluster_free(s->c);
    wr_free(s->u);
    wr_free(s->t);
}

/* As a channel does: until it is told to stop, a turn after each message. */
static uint64_t publish_until_blocked(struct scene *s, uint32_t i)
{
    uint64_t bytes = 0;
    while (!s->u[i].blocked) {
        user_publish(&s->u[i], 1, BODY);
        bytes += BODY;
        cluster_settle(s->c, 1);
        cr_assert_leq(bytes, CLIENT_BYTES_MAX + 2 * BODY);
    }
    return bytes;
}

Test(flow, clients_share_a_budget_and_leave_room_for_others)
{
    struct scene s;
    scene_init(&s);
    struct host *host = cluster_host(s.c, 0, 0);
    cluster_cut(s.c, 0, 1);
    cluster_cut(s.c, 0, 2);
    uint64_t before = CLIENT_BYTES_ALL;
    for (uint32_t i = 0; i < PUBLISHERS; i++) {
        uint64_t bytes = publish_until_blocked(&s, i);
        cr_assert_leq(bytes, before + BODY); /* the less, the more the others have */
        before = bytes;
    }
    cr_assert_leq(host->client_bytes, CLIENT_BYTES_ALL + PUBLISHERS * (BODY + 200));
    cr_assert_gt(host->client_bytes, CLIENT_BYTES_ALL / 2);
    /* Who publishes to another queue is not held back by all that. */
    for (uint32_t k = 0; k < 20; k++) {
        user_publish(&s.u[PUBLISHERS], 1, 1000);
        cr_assert(cluster_run(s.c, all_confirmed, &s.u[PUBLISHERS], 5000));
        cr_assert_not(s.u[PUBLISHERS].blocked);
    }
    cluster_join(s.c, 0, 1);
    cluster_join(s.c, 0, 2);
    for (uint32_t i = 0; i < PUBLISHERS; i++) {
        cr_assert(cluster_run(s.c, all_confirmed, &s.u[i], 60000));
        cr_assert_not(s.u[i].blocked, "publisher %u", i);
    }
    cr_assert_eq(host_client_room(host), CLIENT_BYTES_ALL);
    scene_free(&s);
}

/* A consumer without acknowledgements behind a slow link asks for something: the answer is behind
 * what was delivered before. Nothing is lost as long as one thing comes after the other, however
 * long that takes. */
Test(flow, who_hears_something_waits_for_the_rest)
{
    enum { MESSAGES = 40 };
    struct test_cluster *c = cluster_new(11, 2, 1);
    struct traffic *t = wr_calloc(1, sizeof *t);
    struct user *u = wr_calloc(2, sizeof *u);
    uint64_t queue = cluster_declare(c, "q", (uint32_t[]){0}, 1, -1);
    user_open(&u[0], c, 0, 0, queue, t);
    user_open(&u[1], c, 1, 0, queue, t);
    user_consume(&u[1], 1, QUEUE_NO_ACK, 0, UINT64_MAX);
    cr_assert(cluster_run(c, replied, &u[1], 5000));
    cluster_settle(c, 5000);
    const uint32_t session = u[1].client->session;
    c->held[0][1] = true;
    for (uint32_t i = 0; i < MESSAGES; i++) { /* a parcel each */
        user_publish(&u[0], 1, 100);
        cr_assert(cluster_run(c, all_confirmed, &u[0], 1000));
    }
    (void)queue_client_touch(u[1].client);
    for (uint32_t i = 0; !all_seen(t) && i < 4 * MESSAGES; i++) {
        c->pass[0][1] = 1;
        cluster_settle(c, CONNECTED_RETRY_MS / 4);
    }
    cr_assert(all_seen(t), "%u of %u came", t->seen_count, t->published);
    cr_assert_eq(u[1].client->session, session);
    c->held[0][1] = false;
    user_close(&u[0]);
    user_close(&u[1]);
    cluster_settle(c, 500);
    cluster_free(c);
    wr_free(u);
    wr_free(t);
}

/* A link so slow that one parcel takes longer to cross it than a client waits for a sign at first:
 * each new session makes the leader deliver everything anew, behind what is still on its way. */
Test(flow, who_waits_for_one_long_parcel_gets_to_its_end)
{
    enum { MESSAGES = 40, PARCEL_MS = CONNECTED_RETRY_MS * 5 / 4 };
    struct test_cluster *c = cluster_new(12, 2, 1);
    struct traffic *t = wr_calloc(1, sizeof *t);
    struct user *u = wr_calloc(2, sizeof *u);
    uint64_t queue = cluster_declare(c, "q", (uint32_t[]){0}, 1, -1);
    user_open(&u[0], c, 0, 0, queue, t);
    user_open(&u[1], c, 1, 0, queue, t);
    user_consume(&u[1], 1, QUEUE_NO_ACK | QUEUE_SETTLES, 0, UINT64_MAX);
    cr_assert(cluster_run(c, replied, &u[1], 5000));
    cluster_settle(c, 5000);
    const uint32_t session = u[1].client->session;
    c->held[0][1] = true;
    for (uint32_t i = 0; i < MESSAGES; i++) {
        user_publish(&u[0], 1, BODY);
        cr_assert(cluster_run(c, all_confirmed, &u[0], 1000));
    }
    (void)queue_client_touch(u[1].client);
    for (uint32_t i = 0; !all_seen(t) && i < 8 * MESSAGES; i++) {
        c->pass[0][1] = 1;
        cluster_settle(c, PARCEL_MS);
    }
    cr_assert(all_seen(t), "%u of %u came", t->seen_count, t->published);
    cr_assert_leq(u[1].client->session - session, 3);
    c->held[0][1] = false;
    user_close(&u[0]);
    user_close(&u[1]);
    cluster_settle(c, 500);
    cluster_free(c);
    wr_free(u);
    wr_free(t);
}

/* What is handed out at once crosses a link in pieces: a client hears nothing of a parcel before
 * all of it has come, and a slow link must show it a sign now and then. */
Test(flow, a_backlog_crosses_a_link_in_pieces)
{
    enum { MESSAGES = 40, PARCELS_LEAST = 10 };
    struct test_cluster *c = cluster_new(13, 2, 1);
    struct traffic *t = wr_calloc(1, sizeof *t);
    struct user *u = wr_calloc(2, sizeof *u);
    uint64_t queue = cluster_declare(c, "q", (uint32_t[]){0}, 1, -1);
    user_open(&u[0], c, 0, 0, queue, t);
    user_publish(&u[0], MESSAGES, BODY);
    cr_assert(cluster_run(c, all_confirmed, &u[0], 5000));
    c->held[0][1] = true;
    user_open(&u[1], c, 1, 0, queue, t);
    user_consume(&u[1], 1, QUEUE_NO_ACK | QUEUE_SETTLES, 0, UINT64_MAX);
    cluster_settle(c, RETRY_FIRST_MS / 2);
    uint32_t pieces = 0;
    const struct lane *lane = &c->lanes[0][0][1];
    for (size_t i = lane->first; i < lane->parcels.count; i++) {
        pieces += lane->parcels.items[i]->kind == PARCEL_EFFECTS;
    }
    cr_assert_geq(pieces, PARCELS_LEAST);
    c->held[0][1] = false;
    cr_assert(cluster_run(c, all_seen, t, 5000));
    user_close(&u[0]);
    user_close(&u[1]);
    cluster_settle(c, 500);
    cluster_free(c);
    wr_free(u);
    wr_free(t);
}
