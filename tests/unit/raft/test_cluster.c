/* Properties of small clusters that the golden scripts do not show. */
#include <criterion/criterion.h>

#include "cluster.h"
#include "raft_internal.h"
#include "simulation.h"

Test(proposal, of_another_term_never_enters_the_log)
{
    /* Pitfall R18: queued while leading term t, tried after leadership was lost and won again. */
    struct sim *s = sim_new(3);
    sim_create_voters(s, 3);
    sim_all_up(s);
    uint64_t leader = sim_elect(s);
    struct raft_term old = raft_term(sim_raft(s, leader));
    uint64_t a = leader % 3 + 1;
    uint64_t b = a % 3 + 1;
    struct raft_event ev = {.type = RAFT_EVENT_TRANSFER, .u.peer = sim_id(a)};
    cr_assert_eq(sim_step(s, leader, ev), 0);
    cr_assert_eq(sim_elect(s), a);
    ev.u.peer = sim_id(leader);
    cr_assert_eq(sim_step(s, a, ev), 0);
    cr_assert_eq(sim_elect(s), leader);
    (void)b;
    uint64_t last = raft_last_index(sim_raft(s, leader));
    struct raft_entry e = {0};
    struct raft_event propose = {.type = RAFT_EVENT_PROPOSE};
    propose.u.propose.term = old;
    propose.u.propose.count = 1;
    propose.u.propose.entries = &e;
    cr_assert_eq(sim_step(s, leader, propose), RAFT_E_STALE_TERM);
    cr_assert_eq(raft_last_index(sim_raft(s, leader)), last);
    sim_free(s);
}

Test(liveness, idle_group_has_no_deadline_and_sends_nothing)
{
    struct sim *s = sim_new(4);
    sim_create_voters(s, 5);
    sim_all_up(s);
    uint64_t leader = sim_elect(s);
    cr_assert_eq(sim_propose(s, leader, "x"), 0);
    sim_settle(s, 5000);
    uint64_t steps = s->steps;
    for (uint64_t i = 1; i <= 5; i++) {
        cr_assert_eq(raft_deadline(sim_raft(s, i)), UINT64_MAX);
    }
    sim_settle(s, 100000);
    cr_assert_eq(s->steps, steps); /* pitfall R24 */
    sim_free(s);
}

Test(liveness, without_a_reachable_majority_nobody_campaigns)
{
    struct sim *s = sim_new(5);
    sim_create_voters(s, 3);
    sim_settle(s, 10000);
    for (uint64_t i = 1; i <= 3; i++) {
        cr_assert_eq(raft_term(sim_raft(s, i)).v, 0);
        cr_assert_eq(raft_deadline(sim_raft(s, i)), UINT64_MAX);
    }
    sim_peer(s, 1, 2, true);
    sim_peer(s, 2, 1, true);
    uint64_t leader = sim_elect(s);
    cr_assert(leader == 1 || leader == 2);
    sim_free(s);
}

Test(liveness, cut_off_leader_steps_down_and_confirms_nothing)
{
    struct sim *s = sim_new(6);
    sim_create_voters(s, 3);
    sim_all_up(s);
    uint64_t leader = sim_elect(s);
    uint64_t a = leader % 3 + 1;
    uint64_t b = a % 3 + 1;
    cr_assert_eq(sim_propose(s, leader, "never"), 0);
    sim_drop_all(s, 0, 0);
    sim_disk(s, leader, 10, false);
    uint64_t commit = raft_commit_index(sim_raft(s, leader));
    sim_peer(s, leader, a, false);
    cr_assert_eq(raft_role(sim_raft(s, leader)), RAFT_LEADER); /* still two of three */
    sim_peer(s, leader, b, false);
    cr_assert_eq(raft_role(sim_raft(s, leader)), RAFT_FOLLOWER);
    cr_assert_eq(raft_commit_index(sim_raft(s, leader)), commit);
    cr_assert_eq(sim_propose(s, leader, "no"), RAFT_E_NOT_LEADER);
    sim_free(s);
}

Test(liveness, majorities_ring_keeps_one_leader)
{
    /* Pitfall R10: 1-2-3 in a line; the one that cannot see the leader asks, but deposes nobody. */
    struct sim *s = sim_new(7);
    sim_create_voters(s, 3);
    sim_all_up(s);
    uint64_t leader = sim_elect(s);
    uint64_t far = leader % 3 + 1;
    uint64_t term = raft_term(sim_raft(s, leader)).v;
    s->cut[leader][far] = true;
    s->cut[far][leader] = true;
    sim_peer(s, leader, far, false);
    sim_peer(s, far, leader, false);
    sim_settle(s, 20000);
    cr_assert_eq(sim_leader(s), leader);
    for (uint64_t i = 1; i <= 3; i++) {
        cr_assert_eq(raft_term(sim_raft(s, i)).v, term);
    }
    sim_free(s);
}

/* Those that stay are asked first. */
static void remove_member(struct sim *s, uint64_t leader, uint64_t member)
{
    int err = sim_change(s, leader, RAFT_CHANGE_REMOVE, member);
    if (err == RAFT_E_UNCONFIRMED) {
        sim_settle(s, 100);
        err = sim_change(s, leader, RAFT_CHANGE_REMOVE, member);
    }
    cr_assert_eq(err, 0);
}

Test(membership, removed_member_with_old_configuration_disturbs_nobody)
{
    /* Pitfall R11. */
    struct sim *s = sim_new(8);
    sim_create_voters(s, 4);
    sim_all_up(s);
    uint64_t leader = sim_elect(s);
    uint64_t out = leader % 4 + 1;
    sim_peer(s, out, leader, false);
    sim_peer(s, leader, out, false);
    remove_member(s, leader, out);
    sim_drop_all(s, 0, out);
    uint64_t term = raft_term(sim_raft(s, leader)).v;
    sim_settle(s, 20000);
    cr_assert_eq(sim_leader(s), leader);
    cr_assert_eq(raft_term(sim_raft(s, leader)).v, term);
    cr_assert_eq(raft_membership(sim_raft(s, leader)).count, 3);
    cr_assert_eq(raft_membership(sim_raft(s, out)).count, 4);
    sim_free(s);
}

Test(membership, changes_that_would_lose_the_majority_are_refused)
{
    struct sim *s = sim_new(9);
    sim_create_voters(s, 3);
    sim_all_up(s);
    uint64_t leader = sim_elect(s);
    uint64_t dead = leader % 3 + 1;
    uint64_t other = dead % 3 + 1;
    sim_peer(s, leader, dead, false);
    sim_crash(s, dead, 0);
    cr_assert_eq(sim_change(s, leader, RAFT_CHANGE_REMOVE, other), RAFT_E_NO_QUORUM);
    remove_member(s, leader, dead);
    sim_settle(s, 100);
    remove_member(s, leader, other);
    sim_settle(s, 100);
    cr_assert_eq(sim_change(s, leader, RAFT_CHANGE_REMOVE, leader), RAFT_E_NO_QUORUM);
    sim_free(s);
}

Test(membership, a_voter_is_not_given_up_for_one_that_has_just_died)
{
    /* That it is down is not known yet: it has to answer first. */
    struct sim *s = sim_new(11);
    sim_create_voters(s, 3);
    sim_all_up(s);
    uint64_t leader = sim_elect(s);
    sim_settle(s, 100);
    uint64_t dead = leader % 3 + 1;
    uint64_t other = dead % 3 + 1;
    sim_crash(s, dead, 0);
    cr_assert_eq(sim_change(s, leader, RAFT_CHANGE_REMOVE, other), RAFT_E_UNCONFIRMED);
    sim_settle(s, 100);
    cr_assert_eq(sim_change(s, leader, RAFT_CHANGE_REMOVE, other), RAFT_E_UNCONFIRMED);
    cr_assert_eq(sim_change(s, leader, RAFT_CHANGE_DEMOTE, other), RAFT_E_UNCONFIRMED);
    cr_assert_eq(sim_change(s, leader, RAFT_CHANGE_REMOVE, dead), 0); /* the other answered */
    sim_settle(s, 100);
    cr_assert_eq(raft_commit_index(sim_raft(s, leader)), raft_last_index(sim_raft(s, leader)));
    sim_free(s);
}

Test(membership, an_answer_of_long_ago_says_nothing)
{
    struct sim *s = sim_new(12);
    sim_create_voters(s, 4);
    sim_all_up(s);
    uint64_t leader = sim_elect(s);
    uint64_t out = leader % 4 + 1;
    cr_assert_eq(sim_change(s, leader, RAFT_CHANGE_REMOVE, out), RAFT_E_UNCONFIRMED);
    sim_settle(s, 20000);
    cr_assert_eq(sim_change(s, leader, RAFT_CHANGE_REMOVE, out), RAFT_E_UNCONFIRMED);
    sim_settle(s, 100);
    cr_assert_eq(sim_change(s, leader, RAFT_CHANGE_REMOVE, out), 0);
    sim_free(s);
}

Test(flow, proposals_are_held_off_by_bytes_and_window)
{
    struct sim *s = sim_new(10);
    s->cfg.uncommitted_bytes_max = 10;
    s->cfg.message_entries_max = 1;
    s->cfg.inflight_messages_max = 2;
    sim_create_voters(s, 3);
    sim_all_up(s);
    uint64_t leader = sim_elect(s);
    sim_settle(s, 100);
    for (int i = 0; i < 5; i++) {
        cr_assert_eq(sim_propose(s, leader, "ab"), 0);
    }
    cr_assert_eq(sim_propose(s, leader, "ab"), RAFT_E_BUSY);
    cr_assert_eq(s->message_count, 4); /* two per peer */
    sim_settle(s, 100);
    cr_assert_eq(sim_propose(s, leader, "ab"), 0);
    cr_assert_eq(sim_propose(s, leader, "a payload larger than the limit alone"), RAFT_E_BUSY);
    sim_settle(s, 100);
    cr_assert_eq(sim_propose(s, leader, "a payload larger than the limit alone"), 0);
    sim_settle(s, 100);
    cr_assert_eq(raft_commit_index(sim_raft(s, leader)), raft_last_index(sim_raft(s, leader)));
    sim_free(s);
}

Test(flow, trimmed_payloads_leave_memory_and_terms_stay)
{
    struct sim *s = sim_new(11);
    sim_create_voters(s, 1);
    uint64_t leader = sim_elect(s);
    for (int i = 0; i < 200; i++) {
        cr_assert_eq(sim_propose(s, leader, "0123456789"), 0);
    }
    struct raft *r = sim_raft(s, leader);
    cr_assert_eq(raft_cached_bytes(r), 2000);
    struct raft_event ev = {.type = RAFT_EVENT_TRIM, .u.index = UINT64_MAX};
    cr_assert_eq(sim_step(s, leader, ev), 0);
    cr_assert_eq(raft_cached_bytes(r), 2000); /* nothing durable yet: nothing may go */
    sim_settle(s, 10);
    cr_assert_eq(sim_step(s, leader, ev), 0);
    cr_assert_eq(raft_cached_bytes(r), 0);
    struct raft_term t = {0};
    cr_assert_eq(raft_log_term(r, 100, &t), 0);
    cr_assert_eq(t.v, 1);
    cr_assert_null(raft_log_entry(r, 100));
    sim_free(s);
}

Test(conflict, hints_skip_whole_terms)
{
    /* Pitfall R5: a long diverging suffix costs few round trips, not one per entry. */
    struct sim *s = sim_new(12);
    sim_create_voters(s, 3);
    sim_all_up(s);
    uint64_t leader = sim_elect(s);
    sim_settle(s, 100);
    for (int i = 0; i < 300; i++) {
        cr_assert_eq(sim_propose(s, leader, "lost"), 0);
        sim_drop_all(s, 0, 0);
        sim_disk(s, leader, 10, false);
    }
    for (uint64_t i = 1; i <= 3; i++) {
        if (i != leader) {
            sim_peer(s, leader, i, false);
            sim_peer(s, i, leader, false);
        }
    }
    sim_drop_all(s, 0, 0);
    uint64_t next = sim_elect(s);
    cr_assert_neq(next, leader);
    for (int i = 0; i < 300; i++) {
        cr_assert_eq(sim_propose(s, next, "kept"), 0);
    }
    sim_settle(s, 100);
    uint64_t steps = s->steps;
    sim_peer(s, next, leader, true);
    sim_peer(s, leader, next, true);
    while (raft_commit_index(sim_raft(s, leader)) < raft_last_index(sim_raft(s, next))) {
        cr_assert_lt(s->steps - steps, 60);
        sim_settle(s, 10);
    }
    sim_free(s);
}

Test(disk, single_voter_commits_only_what_its_disk_has)
{
    /* Pitfall R17. */
    struct sim *s = sim_new(13);
    sim_create_voters(s, 1);
    (void)sim_elect(s);
    uint64_t commit = raft_commit_index(sim_raft(s, 1));
    cr_assert_eq(sim_propose(s, 1, "x"), 0);
    cr_assert_eq(raft_commit_index(sim_raft(s, 1)), commit);
    sim_disk(s, 1, 1, false);
    cr_assert_eq(raft_commit_index(sim_raft(s, 1)), commit + 1);
    sim_free(s);
}

/* ---- the simulation -------------------------------------------------------------------------- */

Test(simulation, many_seeds, .timeout = 300)
{
    struct simulation_reached r = {0};
    for (uint64_t seed = 1; seed <= 1500; seed++) {
        simulation_run(seed, 1500, &r);
    }
    /* It has to reach what it is for. */
    cr_assert_gt(r.crashes, 1000);
    cr_assert_gt(r.truncations, 100);
    cr_assert_gt(r.installs, 500);
    cr_assert_gt(r.aborts, 50);
    cr_assert_gt(r.changes, 500);
    cr_assert_gt(r.changes_reverted, 10);
    cr_assert_gt(r.transfers, 500);
    cr_assert_gt(r.reads_ok, 1000);
}
