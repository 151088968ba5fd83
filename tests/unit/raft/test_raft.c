/* Properties of single steps that the golden scripts do not show. */
#include <criterion/criterion.h>

#include "raft_internal.h"

#include <stdlib.h>
#include <string.h>

/* ---- pure parts ------------------------------------------------------------------------------ */

Test(quorum, value_is_what_a_majority_reaches)
{
    cr_assert_eq(raft__quorum_value((uint64_t[]){7}, 1), 7);
    cr_assert_eq(raft__quorum_value((uint64_t[]){3, 9}, 2), 3);
    cr_assert_eq(raft__quorum_value((uint64_t[]){9, 1, 5}, 3), 5);
    cr_assert_eq(raft__quorum_value((uint64_t[]){4, 4, 1, 9}, 4), 4);
    cr_assert_eq(raft__quorum_value((uint64_t[]){1, 2, 3, 4, 5}, 5), 3);
    for (uint32_t voters = 1; voters <= RAFT_MEMBERS_MAX; voters++) {
        cr_assert_gt(2 * raft__majority(voters), voters); /* any two majorities overlap */
    }
}

Test(membership, encoding_round_trip_and_bytes)
{
    struct raft_member in[2] = {{{1, 2}, RAFT_VOTER}, {{1, 3}, RAFT_LEARNER}};
    struct raft_membership m = {2, in};
    uint8_t buf[RAFT_MEMBERSHIP_BYTES_MAX];
    size_t size = raft_membership_encode(&m, buf);
    /* Stored and sent: these bytes are frozen. */
    static const uint8_t expected[] = {1, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2,
                                       1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 3, 2};
    cr_assert_eq(size, sizeof expected);
    cr_assert_arr_eq(buf, expected, size);
    struct raft_member out[RAFT_MEMBERS_MAX];
    uint32_t count = 0;
    cr_assert_eq(raft_membership_decode(buf, size, out, &count), 0);
    cr_assert_eq(count, 2);
    cr_assert(raft_id_equal(out[1].id, in[1].id));
    cr_assert_eq(out[1].role, RAFT_LEARNER);
}

Test(membership, only_canonical_bytes_decode)
{
    struct raft_member in[2] = {{{0, 2}, RAFT_VOTER}, {{0, 3}, RAFT_VOTER}};
    struct raft_membership m = {2, in};
    uint8_t buf[RAFT_MEMBERSHIP_BYTES_MAX + 1] = {0};
    size_t size = raft_membership_encode(&m, buf);
    struct raft_member out[RAFT_MEMBERS_MAX];
    uint32_t count = 0;
    for (size_t cut = 0; cut < size; cut++) {
        cr_assert_eq(raft_membership_decode(buf, cut, out, &count), RAFT_E_CORRUPT);
    }
    cr_assert_eq(raft_membership_decode(buf, size + 1, out, &count), RAFT_E_CORRUPT);
    static const struct {
        size_t at;
        uint8_t value;
    } damage[] = {{0, 2}, {1, 65}, {1, 1}, {18, 0}, {18, 3}, {17, 3}, {17, 4}, {17, 0}};
    for (size_t i = 0; i < sizeof damage / sizeof damage[0]; i++) {
        uint8_t bad[sizeof buf];
        memcpy(bad, buf, sizeof buf);
        bad[damage[i].at] = damage[i].value;
        cr_assert_eq(raft_membership_decode(bad, size, out, &count), RAFT_E_CORRUPT, "case %zu", i);
    }
}

Test(text, every_error_has_a_text)
{
    for (int err = 0; err >= RAFT_E_IGNORED; err--) {
        cr_assert_str_neq(raft_strerror(err), "unknown error");
    }
    cr_assert_str_eq(raft_strerror(1), "unknown error");
    cr_assert_str_eq(raft_strerror(RAFT_E_UNCONFIRMED - 1), "unknown error");
    char buf[8];
    cr_assert_eq(raft_describe_id((struct raft_id){1, 2}, buf, sizeof buf), 32);
    cr_assert_str_eq(buf, "0000000"); /* cut, terminated */
}

/* ---- restore --------------------------------------------------------------------------------- */

static void no_ref(void *ctx, void *owner)
{
    (void)ctx;
    (void)owner;
}

static void *no_create(void *ctx, const uint8_t *bytes, uint32_t size, const uint8_t **ret_data)
{
    (void)ctx;
    (void)bytes;
    (void)size;
    *ret_data = NULL;
    abort();
}

static struct raft_config plain_config(uint64_t id)
{
    struct raft_config c = {.id = {0, id}, .seed = 1};
    c.payload = (struct raft_payload_ops){no_ref, no_ref, no_create, NULL};
    return c;
}

static const struct raft_member three[] = {
    {{0, 1}, RAFT_VOTER}, {{0, 2}, RAFT_VOTER}, {{0, 3}, RAFT_VOTER}};

static struct raft *restore(uint64_t snapshot_index, uint64_t snapshot_term, uint64_t applied)
{
    struct raft_config c = plain_config(1);
    struct raft_hard_state hard = {{9}, {0, 0}, 0};
    struct raft_snapshot_meta meta = {snapshot_index, {snapshot_term}, {3, three}};
    return raft_new(&c, &hard, &meta, applied);
}

static int restore_entry(struct raft *r, uint64_t index, uint64_t term)
{
    struct raft_entry e = {.term = {term}, .index = index, .kind = RAFT_ENTRY_COMMAND};
    return raft_restore_entry(r, &e);
}

Test(restore, contradictions_are_corrupt_not_crashes)
{
    struct raft_update u;
    struct raft *r = restore(5, 2, 5);
    cr_assert_eq(restore_entry(r, 7, 2), RAFT_E_CORRUPT); /* a gap */
    cr_assert_eq(raft_start(r, 0, &u), RAFT_E_CORRUPT);
    raft_free(r);

    r = restore(5, 4, 5);
    cr_assert_eq(restore_entry(r, 6, 3), RAFT_E_CORRUPT); /* falling term */
    raft_free(r);

    r = restore(5, 4, 5);
    cr_assert_eq(restore_entry(r, 6, 10), RAFT_E_CORRUPT); /* beyond the hard state's term */
    raft_free(r);

    r = restore(5, 2, 8); /* pitfall R4: applied beyond the log */
    cr_assert_eq(restore_entry(r, 6, 2), 0);
    cr_assert_eq(raft_start(r, 0, &u), RAFT_E_CORRUPT);
    raft_free(r);

    r = restore(5, 0, 5); /* a snapshot without a term */
    cr_assert_eq(raft_start(r, 0, &u), RAFT_E_CORRUPT);
    raft_free(r);
}

Test(restore, log_that_does_not_continue_the_snapshot_is_voided)
{
    /* A crash after the snapshot became durable and before the log was reset (pitfall R6). */
    struct raft_update u;
    struct raft *r = restore(5, 4, 5);
    for (uint64_t i = 1; i <= 8; i++) {
        cr_assert_eq(restore_entry(r, i, 2), 0);
    }
    cr_assert_eq(raft_start(r, 0, &u), 0);
    cr_assert(u.flags & RAFT_UPDATE_LOG_RESET);
    cr_assert_eq(u.log_begin, 6);
    cr_assert_eq(raft_last_index(r), 5);
    raft_check(r);
    raft_free(r);

    r = restore(5, 2, 5); /* the same, but it does continue */
    for (uint64_t i = 1; i <= 8; i++) {
        cr_assert_eq(restore_entry(r, i, 2), 0);
    }
    cr_assert_eq(raft_start(r, 0, &u), 0);
    cr_assert_not(u.flags & RAFT_UPDATE_LOG_RESET);
    cr_assert_eq(raft_last_index(r), 8);
    raft_free(r);
}

/* ---- hostile and stale input ----------------------------------------------------------------- */

static int receive(struct raft *r, struct raft_message m)
{
    struct raft_event ev = {.type = RAFT_EVENT_RECEIVE, .now_ms = 1, .u.message = &m};
    struct raft_update u;
    int err = raft_step(r, &ev, &u);
    raft_check(r);
    return err;
}

Test(receive, malformed_messages_change_nothing)
{
    struct raft *r = restore(5, 2, 5);
    struct raft_update u;
    cr_assert_eq(restore_entry(r, 6, 2), 0);
    cr_assert_eq(raft_start(r, 0, &u), 0);
    struct raft_message ok = {.type = RAFT_MSG_APPEND, .from = {0, 2}, .to = {0, 1}, .term = {9}};
    ok.u.append.prev_index = 6;
    ok.u.append.prev_term = (struct raft_term){2};
    struct raft_message m = ok;
    m.to = (struct raft_id){0, 9};
    cr_assert_eq(receive(r, m), RAFT_E_BAD_MESSAGE);
    m = ok;
    m.from = m.to;
    cr_assert_eq(receive(r, m), RAFT_E_BAD_MESSAGE);
    m = ok;
    m.term.v = UINT64_MAX;
    cr_assert_eq(receive(r, m), RAFT_E_BAD_MESSAGE);
    m = ok;
    m.u.append.prev_index = UINT64_MAX;
    cr_assert_eq(receive(r, m), RAFT_E_BAD_MESSAGE);
    m = ok;
    m.type = (enum raft_message_type)77;
    cr_assert_eq(receive(r, m), RAFT_E_BAD_MESSAGE);
    m = ok;
    struct raft_entry e = {.term = {9}, .index = 8, .kind = RAFT_ENTRY_COMMAND};
    m.u.append.entries = &e;
    m.u.append.entry_count = 1;
    cr_assert_eq(receive(r, m), RAFT_E_BAD_MESSAGE); /* a gap */
    e.index = 7;
    e.kind = RAFT_ENTRY_CONFIG;
    cr_assert_eq(receive(r, m), RAFT_E_BAD_MESSAGE); /* no membership in it */
    e.kind = (enum raft_entry_kind)9;
    cr_assert_eq(receive(r, m), RAFT_E_BAD_MESSAGE);
    e.kind = RAFT_ENTRY_COMMAND;
    e.term.v = 1;
    cr_assert_eq(receive(r, m), RAFT_E_BAD_MESSAGE); /* terms fall */
    cr_assert_eq(raft_last_index(r), 6);
    cr_assert(raft_id_is_zero(raft_leader(r)));
    e.term.v = 9;
    cr_assert_eq(receive(r, m), 0);
    cr_assert_eq(raft_last_index(r), 7);
    m.from = (struct raft_id){0, 3};
    cr_assert_eq(receive(r, m), RAFT_E_BAD_MESSAGE); /* a second leader in the term */
    raft_free(r);
}

Test(receive, committed_prefix_is_never_contradicted)
{
    struct raft *r = restore(5, 2, 6);
    struct raft_update u;
    cr_assert_eq(restore_entry(r, 6, 2), 0);
    cr_assert_eq(raft_start(r, 0, &u), 0);
    struct raft_entry e = {.term = {3}, .index = 6, .kind = RAFT_ENTRY_COMMAND};
    struct raft_message m = {.type = RAFT_MSG_APPEND, .from = {0, 2}, .to = {0, 1}, .term = {9}};
    m.u.append.prev_index = 5;
    m.u.append.prev_term = (struct raft_term){2};
    m.u.append.entries = &e;
    m.u.append.entry_count = 1;
    cr_assert_eq(receive(r, m), RAFT_E_BAD_MESSAGE);
    struct raft_term t = {0};
    cr_assert_eq(raft_log_term(r, 6, &t), 0);
    cr_assert_eq(t.v, 2);
    raft_free(r);
}

Test(receive, random_bytes_never_crash)
{
    /* Any bit pattern in the scalar fields: refused or handled, invariants kept. */
    uint64_t x = 42;
    for (int round = 0; round < 20000; round++) {
        struct raft *r = restore(5, 2, 5);
        struct raft_update u;
        cr_assert_eq(restore_entry(r, 6, 2), 0);
        cr_assert_eq(raft_start(r, 0, &u), 0);
        for (int i = 0; i < 4; i++) {
            struct raft_message m;
            uint8_t *bytes = (uint8_t *)&m;
            for (size_t k = 0; k < sizeof m; k++) {
                x = x * 6364136223846793005u + 1442695040888963407u;
                bytes[k] = (x >> 60) < 12 ? (uint8_t)((x >> 40) & 1 && k % 8 == 0 ? x >> 56 : 0)
                                          : (uint8_t)(x >> 50);
            }
            m.type = (enum raft_message_type)(1 + (x >> 33) % 12);
            m.from = (struct raft_id){0, 2 + (x >> 20) % 2};
            m.to = (struct raft_id){0, 1};
            m.term.v = m.term.v % 16;
            struct raft_entry e = {.term = {9}, .index = 7, .kind = RAFT_ENTRY_BARRIER};
            if (m.type == RAFT_MSG_APPEND) {
                m.u.append.entries = &e;
                m.u.append.entry_count = (x >> 10) % 2;
            } else if (m.type == RAFT_MSG_APPEND_RESPONSE) {
                m.u.append_response.reject = (x >> 11) & 1;
            } else if (m.type == RAFT_MSG_SNAPSHOT_CHUNK) {
                m.u.snapshot.meta.membership = (struct raft_membership){3, three};
                m.u.snapshot.data = (const uint8_t *)"chunk";
                m.u.snapshot.size = 5;
                m.u.snapshot.owner = NULL;
                m.u.snapshot.done = (x >> 12) & 1;
            } else if (m.type == RAFT_MSG_VOTE || m.type == RAFT_MSG_PREVOTE) {
                m.u.vote.transfer = (x >> 13) & 1;
            } else if (m.type == RAFT_MSG_VOTE_RESPONSE || m.type == RAFT_MSG_PREVOTE_RESPONSE) {
                m.u.vote_response.granted = (x >> 14) & 1;
            } else if (m.type == RAFT_MSG_READ_RESPONSE) {
                m.u.read_response.ok = (x >> 15) & 1;
            }
            (void)receive(r, m);
        }
        raft_free(r);
    }
}

/* ---- a leader by hand ------------------------------------------------------------------------ */

static int step(struct raft *r, struct raft_event ev)
{
    struct raft_update u;
    ev.now_ms = 1000;
    int err = raft_step(r, &ev, &u);
    raft_check(r);
    return err;
}

static void vote_for(struct raft *r, enum raft_message_type type, uint64_t term, uint64_t asked)
{
    struct raft_message m = {.type = type, .from = {0, 2}, .to = {0, 1}, .term = {term}};
    m.u.vote_response.granted = true;
    m.u.vote_response.vote_term = (struct raft_term){asked};
    cr_assert_eq(receive(r, m), 0);
}

static void answer(struct raft *r, uint64_t from, uint64_t match)
{
    struct raft_message m = {
        .type = RAFT_MSG_APPEND_RESPONSE, .from = {0, from}, .to = {0, 1}, .term = {10}};
    m.u.append_response.match = match;
    m.u.append_response.verified = match;
    cr_assert_eq(receive(r, m), 0);
}

/* Member 1 of three with entries 1/1 2/2 on disk, commit 0, leads term 10; its barrier is 3/10, not
 * durable yet. */
static struct raft *leader_with_old_entries(void)
{
    struct raft *r = restore(0, 0, 0);
    struct raft_update u;
    cr_assert_eq(restore_entry(r, 1, 1), 0);
    cr_assert_eq(restore_entry(r, 2, 2), 0);
    cr_assert_eq(raft_start(r, 0, &u), 0);
    cr_assert_eq(step(r, (struct raft_event){.type = RAFT_EVENT_PEER_UP, .u.peer = {0, 2}}), 0);
    cr_assert_eq(step(r, (struct raft_event){.type = RAFT_EVENT_PEER_UP, .u.peer = {0, 3}}), 0);
    struct raft_event tick = {.type = RAFT_EVENT_TICK, .now_ms = raft_deadline(r)};
    cr_assert_eq(raft_step(r, &tick, &u), 0);
    cr_assert_eq(raft_role(r), RAFT_PRE_CANDIDATE);
    vote_for(r, RAFT_MSG_PREVOTE_RESPONSE, 9, 10);
    cr_assert_eq(raft_role(r), RAFT_CANDIDATE);
    vote_for(r, RAFT_MSG_VOTE_RESPONSE, 10, 10);
    cr_assert_eq(raft_role(r), RAFT_CANDIDATE); /* not before its own vote is durable */
    struct raft_event durable = {.type = RAFT_EVENT_HARD_STATE_PERSISTED};
    durable.u.hard_state_generation = 1;
    cr_assert_eq(step(r, durable), 0);
    vote_for(r, RAFT_MSG_VOTE_RESPONSE, 10, 10);
    cr_assert_eq(raft_role(r), RAFT_LEADER);
    cr_assert_eq(raft_last_index(r), 3);
    return r;
}

static void persist(struct raft *r, uint64_t index, uint64_t term)
{
    struct raft_event ev = {.type = RAFT_EVENT_PERSISTED};
    ev.u.persisted.index = index;
    ev.u.persisted.term = (struct raft_term){term};
    ev.u.persisted.generation = raft_generation(r);
    cr_assert_eq(step(r, ev), 0);
}

Test(commit, entries_of_older_terms_are_not_committed_by_counting)
{
    /* Thesis figure 3.7: entry 2/2 is on a majority, and may still be overwritten. */
    struct raft *r = leader_with_old_entries();
    answer(r, 2, 2);
    answer(r, 3, 2);
    cr_assert_eq(raft_commit_index(r), 0);
    answer(r, 2, 3);
    cr_assert_eq(raft_commit_index(r), 0); /* the leader's own barrier is not durable */
    persist(r, 3, 10);
    cr_assert_eq(raft_commit_index(r), 3);
    raft_free(r);
}

/* Member 1 of those, from nothing. */
static struct raft *founder(const struct raft_member *members, uint32_t count,
                            struct raft_update *ret_update)
{
    const struct raft_config c = plain_config(1);
    const struct raft_hard_state hard = {0};
    const struct raft_snapshot_meta meta = {0, {0}, {count, members}};
    struct raft *r = raft_new(&c, &hard, &meta, 0);
    cr_assert_eq(raft_start(r, 1000, ret_update), 0);
    raft_check(r);
    return r;
}

static void hard_durable(struct raft *r, uint64_t generation)
{
    const struct raft_event ev = {.type = RAFT_EVENT_HARD_STATE_PERSISTED,
                                  .u.hard_state_generation = generation};
    cr_assert_eq(step(r, ev), 0);
}

Test(alone, vote_and_barrier_go_to_the_disk_together)
{
    for (uint32_t entries_first = 0; entries_first < 2; entries_first++) {
        struct raft_update u;
        struct raft *r = founder(three, 1, &u);
        cr_assert_eq(raft_role(r), RAFT_LEADER);
        cr_assert_eq(u.flags & (RAFT_UPDATE_HARD_STATE | RAFT_UPDATE_ENTRIES),
                     RAFT_UPDATE_HARD_STATE | RAFT_UPDATE_ENTRIES);
        cr_assert_eq(u.hard_state.term.v, 1);
        cr_assert_eq(u.hard_state.vote.lo, 1);
        cr_assert_eq(u.entry_count, 1);
        cr_assert_eq(u.entries[0].kind, RAFT_ENTRY_BARRIER);
        cr_assert_eq(u.message_count, 0);
        if (entries_first != 0) {
            persist(r, 1, 1);
            cr_assert_eq(raft_commit_index(r), 0); /* its vote is not known to be durable */
            hard_durable(r, 1);
        } else {
            hard_durable(r, 1);
            cr_assert_eq(raft_commit_index(r), 0);
            persist(r, 1, 1);
        }
        cr_assert_eq(raft_commit_index(r), 1);
        cr_assert(raft_is_ready(r));
        raft_free(r);
    }
}

Test(alone, nobody_is_added_before_the_vote_is_durable)
{
    struct raft_update u;
    struct raft *r = founder(three, 1, &u);
    struct raft_event add = {.type = RAFT_EVENT_CHANGE};
    add.u.change.type = RAFT_CHANGE_ADD_LEARNER;
    add.u.change.member = (struct raft_id){0, 2};
    cr_assert_eq(step(r, add), RAFT_E_NOT_READY);
    raft_free(r);
}

Test(alone, who_has_a_learner_waits_for_its_vote)
{
    /* An append of a term that a crash undoes, and that is then used again for other entries, would
     * leave two entries of one index and term. */
    static const struct raft_member two[] = {{{0, 1}, RAFT_VOTER}, {{0, 2}, RAFT_LEARNER}};
    struct raft_update u;
    struct raft *r = founder(two, 2, &u);
    cr_assert_eq(raft_role(r), RAFT_CANDIDATE);
    cr_assert_eq(u.entry_count, 0);
    hard_durable(r, 1);
    cr_assert_eq(raft_role(r), RAFT_LEADER);
    cr_assert_eq(raft_last_index(r), 1);
    raft_free(r);
}

Test(alone, by_a_membership_that_is_not_committed_it_waits_for_its_vote)
{
    struct raft_update u;
    struct raft *r = restore(0, 0, 0);
    const struct raft_membership sole = {1, three};
    uint8_t data[RAFT_MEMBERSHIP_BYTES_MAX];
    struct raft_entry e = {.term = {9}, .index = 1, .kind = RAFT_ENTRY_CONFIG, .data = data};
    e.size = (uint32_t)raft_membership_encode(&sole, data);
    cr_assert_eq(raft_restore_entry(r, &e), 0);
    cr_assert_eq(raft_start(r, 0, &u), 0);
    cr_assert_eq(raft_role(r), RAFT_CANDIDATE);
    cr_assert_eq(u.entry_count, 0);
    hard_durable(r, 1);
    cr_assert_eq(raft_role(r), RAFT_LEADER);
    raft_free(r);
}

Test(membership, leader_commits_in_its_term_before_it_changes_anything)
{
    /* Pitfall R12, Ongaro's note of 2015: else two majorities of different memberships need not
     * overlap. */
    struct raft *r = leader_with_old_entries();
    struct raft_event change = {.type = RAFT_EVENT_CHANGE};
    change.u.change.type = RAFT_CHANGE_REMOVE;
    change.u.change.member = (struct raft_id){0, 3};
    cr_assert_eq(step(r, change), RAFT_E_NOT_READY);
    persist(r, 3, 10);
    cr_assert_eq(step(r, change), RAFT_E_NOT_READY);
    cr_assert_eq(raft_membership(r).count, 3);
    raft_free(r);
}

Test(read, waits_for_a_commit_in_the_leaders_term)
{
    struct raft *r = leader_with_old_entries();
    struct raft_event read = {.type = RAFT_EVENT_READ_INDEX, .now_ms = 1000, .u.context = 5};
    struct raft_update u;
    cr_assert_eq(raft_step(r, &read, &u), 0);
    cr_assert_eq(u.read_count, 0);
    cr_assert_eq(u.message_count, 0); /* no round yet: the commit index may be stale */
    persist(r, 3, 10);
    answer(r, 2, 3);
    struct raft_message m = {
        .type = RAFT_MSG_APPEND_RESPONSE, .from = {0, 2}, .to = {0, 1}, .term = {10}};
    m.u.append_response.match = 3;
    m.u.append_response.verified = 3;
    m.u.append_response.probe = 1;
    struct raft_event ev = {.type = RAFT_EVENT_RECEIVE, .now_ms = 1000, .u.message = &m};
    cr_assert_eq(raft_step(r, &ev, &u), 0);
    cr_assert_eq(u.read_count, 1);
    cr_assert_eq(u.reads[0].status, 0);
    cr_assert_eq(u.reads[0].index, 3);
    raft_free(r);
}

Test(votes, of_strangers_do_not_count)
{
    /* Pitfalls R11, R15: an unknown id is never a voter. */
    struct raft *r = restore(0, 0, 0);
    struct raft_update u;
    cr_assert_eq(raft_start(r, 0, &u), 0);
    cr_assert_eq(step(r, (struct raft_event){.type = RAFT_EVENT_PEER_UP, .u.peer = {0, 2}}), 0);
    struct raft_event tick = {.type = RAFT_EVENT_TICK, .now_ms = raft_deadline(r)};
    cr_assert_eq(raft_step(r, &tick, &u), 0);
    struct raft_message m = {
        .type = RAFT_MSG_PREVOTE_RESPONSE, .from = {0, 77}, .to = {0, 1}, .term = {9}};
    m.u.vote_response.granted = true;
    m.u.vote_response.vote_term = (struct raft_term){10};
    cr_assert_eq(receive(r, m), 0);
    cr_assert_eq(raft_role(r), RAFT_PRE_CANDIDATE);
    m.u.vote_response.granted = false;
    m.term.v = 50; /* nor does a stranger's term */
    cr_assert_eq(receive(r, m), 0);
    cr_assert_eq(raft_term(r).v, 9);
    raft_free(r);
}
