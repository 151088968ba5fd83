/*
 * What: who leads: pre-vote, vote, becoming leader or follower, stepping down, and what node-level
 * liveness (PEER_UP / PEER_DOWN) means for it.
 *
 * Happy path: the leader's node goes down -> each follower waits a random time -> the first asks
 * for pre-votes
 * -> a majority has no live leader either and no newer log -> new term, own vote made durable ->
 * votes asked
 * -> majority -> leader: appends a BARRIER.
 * Failure modes: split votes retry with a wider random delay. Without a reachable majority nobody
 * campaigns and no timer runs; PEER_UP starts again.
 *
 * Invariants:
 *   E1  A pre-vote changes nothing at the one asked: no vote, no term, no timer (pitfall R9,
 * thesis 9.6). E2  Whoever has a live leader refuses pre-votes and votes, and does not adopt their
 * term, except after a leadership transfer (stickiness, thesis 4.2.3; R10). E3  A vote is answered,
 * and counted by the candidate itself, only when durable (R16, R17). Requests for votes leave only
 * after the candidate's own term is durable: a candidate that crashed never campaigns twice in a
 *       term.
 *   E4  A leader that does not reach a majority of voters steps down at once (check-quorum,
 * thesis 6.2). E5  Votes of members that are not voters in force here are not counted (R11). A vote
 * is granted to whomever asks rightly: a lagging member may not know the asker yet (thesis 4.2.2).
 *   E6  The only member of a committed membership leads in the step in which it votes for itself
 * (docs/raft.md, "Alone"). Until that vote is durable it commits nothing, and there is nobody to
 * whom it could send anything.
 * Spec: thesis 3.4, 3.6.1, 4.2.2, 4.2.3, 6.2, 9.6.
 */
#include "raft_internal.h"

bool raft__hard_is_durable(const struct raft *r)
{
    return !r->hard_dirty && r->hard_durable == r->hard_generation;
}

bool raft__has_live_leader(const struct raft *r)
{
    if (r->role == RAFT_LEADER) {
        return true;
    }
    return !raft_id_is_zero(r->leader) && raft__is_up(r, r->leader);
}

/* Committed, since an uncommitted one may be replaced by an earlier one with others in it. */
static bool is_alone(const struct raft *r)
{
    const struct raft_config_point *c = raft__members(r);
    return c->count == 1 && c->index <= r->commit && raft_is_voter(r);
}

static bool is_voter_in(const struct raft *r, const struct raft_config_point *c)
{
    int at = raft__members_find(c, r->cfg.id);
    return at >= 0 && c->members[at].role == RAFT_VOTER;
}

/* A voter; or one whose removal or demotion is in its log but not committed yet: it may be the only
 * one whose log allows it to win, and then has to commit its own removal (thesis 4.2.2). It does
 * not count itself. */
static bool may_campaign(const struct raft *r)
{
    const struct raft_config_point *c = raft__members(r);
    bool voter =
        is_voter_in(r, c) || (c->index > r->commit && r->config_count > 1 && is_voter_in(r, c - 1));
    return voter && !r->cfg.abstains && !r->incoming.installing && raft__quorum_reachable(r, c);
}

/* Learners, and who abstains, do not campaign, but they ask as if (E1 makes that harmless): a
 * leader that hears it answers. */
static bool may_ask(const struct raft *r)
{
    const struct raft_config_point *c = raft__members(r);
    return may_campaign(r) || (raft__members_find(c, r->cfg.id) >= 0 && !r->incoming.installing &&
                               raft__quorum_reachable(r, c));
}

/* Starts the random delay if there is a reason to campaign or ask and none is running. */
void raft__arm_election(struct raft *r)
{
    if (r->role == RAFT_LEADER || r->election_deadline != RAFT_NEVER || !may_ask(r)) {
        return;
    }
    uint32_t shift = r->election_attempt < 3 ? r->election_attempt : 3;
    uint64_t low = r->cfg.election_min_ms;
    uint64_t spread = (uint64_t)(r->cfg.election_max_ms - r->cfg.election_min_ms + 1) << shift;
    if (raft__voter_count(raft__members(r)) == 1 && raft_is_voter(r) && r->election_attempt == 0) {
        r->election_deadline = r->now_ms; /* nobody to collide with */
        return;
    }
    r->election_deadline =
        raft__after(r, low + raft__random(r, spread > UINT32_MAX ? UINT32_MAX : spread));
}

static void set_term(struct raft *r, struct raft_term term)
{
    RAFT_ASSERT(term.v >= r->term.v);
    if (term.v == r->term.v) {
        return;
    }
    r->term = term;
    r->vote = raft__nobody();
    r->vote_owed = raft__nobody();
    r->hard_dirty = true;
    r->out.flags |= RAFT_UPDATE_ROLE;
}

/* Follower of `leader` (or of nobody yet) in `term`. Everything that belonged to the former role,
 * leader or term is void; a new leader has to prove anew what it shares with this log. */
void raft__become_follower(struct raft *r, struct raft_term term, struct raft_id leader)
{
    bool news = r->term.v != term.v || !raft_id_equal(r->leader, leader);
    if (r->role != RAFT_FOLLOWER) {
        r->out.flags |= RAFT_UPDATE_ROLE;
    }
    if (r->role == RAFT_LEADER) {
        /* The followers must not wait for a leader that is alive but leads no more. */
        for (uint32_t i = 0; i < r->peer_count && raft_id_is_zero(leader); i++) {
            (void)raft__message(r, RAFT_MSG_RESIGN, r->peers[i].id);
        }
        raft__transfer_clear(r, false);
        raft__peers_free(r);
        r->notice_deadline = RAFT_NEVER;
        r->uncommitted_bytes = 0;
    }
    r->role = RAFT_FOLLOWER;
    set_term(r, term);
    if (!news) {
        return;
    }
    r->leader = leader;
    r->out.flags |= RAFT_UPDATE_ROLE;
    raft__read_fail_all(r);
    r->verified = r->commit;
    r->match_told = 0;
    r->probe_seen = 0;
    r->probe_told = 0;
    r->answer_owed = false;
    r->snapshot_answer_owed = false;
    r->election_deadline = RAFT_NEVER;
    if (!raft_id_is_zero(leader)) {
        r->election_attempt = 0;
    }
    /* An unfinished snapshot belongs to one leader in one term. */
    if (r->incoming.active && !r->incoming.installing &&
        (r->incoming.leader_term.v != term.v ||
         (!raft_id_is_zero(leader) && !raft_id_equal(leader, r->incoming.from)))) {
        raft__snapshot_abort(r);
    }
}

/* Leadership ends without a successor. */
void raft__resign(struct raft *r)
{
    RAFT_ASSERT(r->role == RAFT_LEADER);
    raft__become_follower(r, r->term, raft__nobody());
    raft__arm_election(r);
}

/* ---- campaigning ----------------------------------------------------------------------------- */

static void become_leader(struct raft *r)
{
    RAFT_ASSERT(r->role == RAFT_CANDIDATE);
    RAFT_ASSERT(raft__hard_is_durable(r) || is_alone(r)); /* E3, E6 */
    r->role = RAFT_LEADER;
    r->leader = r->cfg.id;
    r->out.flags |= RAFT_UPDATE_ROLE;
    r->election_deadline = RAFT_NEVER;
    r->election_attempt = 0;
    r->notice_deadline = RAFT_NEVER;
    r->transfer_to = raft__nobody();
    r->transfer_deadline = RAFT_NEVER;
    r->read_round = 0;
    r->read_round_done = 0;
    r->change_round = 0;
    raft__peers_free(r);
    raft__peers_reconcile(r);
    r->uncommitted_bytes = 0;
    for (uint64_t i = raft__max(r->commit + 1, r->log.cache_begin); i <= r->log.last; i++) {
        r->uncommitted_bytes += raft__log_slot(r, i)->size;
    }
    /* Thesis 3.6.2: nothing of an older term is committed by counting; the BARRIER carries it
     * along. */
    raft__append_own(r, RAFT_ENTRY_BARRIER, NULL, 0, NULL);
    r->term_begin = r->log.last;
    if (!raft__quorum_reachable(r, raft__members(r))) {
        raft__resign(r);
    }
}

static bool tally(struct raft *r, struct raft_id from)
{
    const struct raft_config_point *c = raft__members(r);
    int at = raft__members_find(c, from);
    if (at >= 0 && c->members[at].role == RAFT_VOTER) {
        r->votes_granted |= UINT64_C(1) << at;
    }
    uint32_t granted = (uint32_t)__builtin_popcountll(r->votes_granted);
    return granted >= raft__majority(raft__voter_count(c));
}

static void request_votes(struct raft *r, enum raft_message_type type, struct raft_term term)
{
    const struct raft_config_point *c = raft__members(r);
    for (uint32_t i = 0; i < c->count; i++) {
        if (c->members[i].role != RAFT_VOTER || raft_id_equal(c->members[i].id, r->cfg.id)) {
            continue;
        }
        struct raft_message *m = raft__message(r, type, c->members[i].id);
        m->term = term;
        m->u.vote.last_index = r->log.last;
        m->u.vote.last_term = raft__log_term(r, r->log.last);
        m->u.vote.transfer = r->campaign_transfer;
    }
}

static void retry_later(struct raft *r)
{
    r->election_deadline = RAFT_NEVER;
    r->election_attempt++;
    raft__arm_election(r);
}

void raft__campaign(struct raft *r, bool transfer)
{
    RAFT_ASSERT(r->role != RAFT_LEADER);
    raft__become_follower(r, (struct raft_term){r->term.v + 1}, raft__nobody());
    r->role = RAFT_CANDIDATE;
    r->vote = r->cfg.id;
    r->votes_granted = 0;
    r->votes_requested = false;
    r->campaign_transfer = transfer;
    RAFT_ASSERT(r->hard_dirty);
    if (is_alone(r)) {
        become_leader(r); /* E6 */
        return;
    }
    retry_later(r);
}

static void pre_campaign(struct raft *r)
{
    raft__become_follower(r, r->term, raft__nobody());
    r->role = RAFT_PRE_CANDIDATE;
    r->out.flags |= RAFT_UPDATE_ROLE;
    r->votes_granted = 0;
    r->campaign_transfer = false;
    if (tally(r, r->cfg.id)) {
        raft__campaign(r, false);
        return;
    }
    request_votes(r, RAFT_MSG_PREVOTE, (struct raft_term){r->term.v + 1});
    retry_later(r);
}

void raft__election_timeout(struct raft *r)
{
    r->election_deadline = RAFT_NEVER;
    if (r->role == RAFT_LEADER) {
        return;
    }
    if (!may_campaign(r)) {
        /* Idle until PEER_UP, a membership or the end of an installation changes that. A known
         * leader is kept: it may be learned again, it may not. */
        if (r->role != RAFT_FOLLOWER) {
            raft__become_follower(r, r->term, raft__nobody());
        }
        if (may_ask(r) && !raft__has_live_leader(r)) {
            request_votes(r, RAFT_MSG_PREVOTE, (struct raft_term){r->term.v + 1});
            retry_later(r);
        }
        return;
    }
    if (r->role == RAFT_CANDIDATE && !r->votes_requested) {
        retry_later(r); /* the disk is slow: another term would only make it slower */
        return;
    }
    pre_campaign(r);
}

/* The own vote (or the promise of one) has become durable. */
void raft__hard_state_durable(struct raft *r)
{
    if (r->role == RAFT_LEADER) {
        raft__commit_count(r); /* E6 */
        return;
    }
    if (r->role != RAFT_CANDIDATE || r->votes_requested || !raft__hard_is_durable(r)) {
        return;
    }
    r->votes_requested = true;
    if (tally(r, r->cfg.id)) {
        become_leader(r);
        return;
    }
    request_votes(r, RAFT_MSG_VOTE, r->term);
}

/* ---- being asked ----------------------------------------------------------------------------- */

static bool log_up_to_date(const struct raft *r, const struct raft_message *m)
{
    uint64_t own = raft__log_term(r, r->log.last).v;
    return m->u.vote.last_term.v > own ||
           (m->u.vote.last_term.v == own && m->u.vote.last_index >= r->log.last);
}

static void answer_vote(struct raft *r, enum raft_message_type type, struct raft_id to,
                        struct raft_term asked, bool granted)
{
    struct raft_message *m = raft__message(r, type, to);
    m->u.vote_response.granted = granted;
    m->u.vote_response.vote_term = asked;
}

static void receive_prevote(struct raft *r, const struct raft_message *m)
{
    if (r->role == RAFT_LEADER) {
        /* The asker does not know that it has a leader: let it learn. (If its term is higher,
         * having campaigned in vain, its refusal ends this leadership: else it would be stuck for
         * ever.) */
        struct raft_peer *p = raft__peer(r, m->from);
        if (p != NULL && p->up) {
            raft__send_append(r, p, false);
        }
    }
    bool granted = !raft__has_live_leader(r) && m->term.v > r->term.v && log_up_to_date(r, m);
    answer_vote(r, RAFT_MSG_PREVOTE_RESPONSE, m->from, m->term, granted);
}

void raft__receive_vote(struct raft *r, const struct raft_message *m)
{
    if (raft_id_equal(m->from, r->leader) && r->role != RAFT_LEADER && m->term.v > r->term.v) {
        /* Our leader campaigns for a later term: it leads no more. */
        raft__become_follower(r, r->term, raft__nobody());
        raft__arm_election(r);
    }
    if (m->type == RAFT_MSG_PREVOTE) {
        receive_prevote(r, m);
        return;
    }
    if (m->term.v > r->term.v) {
        if (raft__has_live_leader(r) && !m->u.vote.transfer) {
            return; /* E2: not even the term is taken over */
        }
        raft__become_follower(r, m->term, raft__nobody());
        raft__arm_election(r);
    }
    bool free = raft_id_is_zero(r->vote) || raft_id_equal(r->vote, m->from);
    bool granted =
        m->term.v == r->term.v && free && raft_id_is_zero(r->leader) && log_up_to_date(r, m);
    if (!granted) {
        answer_vote(r, RAFT_MSG_VOTE_RESPONSE, m->from, m->term, false);
        return;
    }
    if (raft_id_is_zero(r->vote)) {
        r->vote = m->from;
        r->hard_dirty = true;
    }
    raft__become_follower(r, r->term, raft__nobody()); /* ends an own pre-vote */
    r->vote_owed = m->from;
    /* Give the one voted for the time to win. */
    r->election_deadline = RAFT_NEVER;
    raft__arm_election(r);
}

void raft__receive_vote_response(struct raft *r, const struct raft_message *m)
{
    const struct raft_config_point *c = raft__members(r);
    if (raft__members_find(c, m->from) < 0) {
        return; /* E5 */
    }
    bool prevote = m->type == RAFT_MSG_PREVOTE_RESPONSE;
    if (m->term.v > r->term.v && !(prevote && m->u.vote_response.granted)) {
        raft__become_follower(r, m->term, raft__nobody());
        raft__arm_election(r);
        return;
    }
    if (!m->u.vote_response.granted) {
        return;
    }
    if (prevote) {
        if (r->role == RAFT_PRE_CANDIDATE && m->u.vote_response.vote_term.v == r->term.v + 1 &&
            tally(r, m->from)) {
            raft__campaign(r, false);
        }
    } else if (r->role == RAFT_CANDIDATE && r->votes_requested &&
               m->u.vote_response.vote_term.v == r->term.v && tally(r, m->from)) {
        become_leader(r);
    }
}

void raft__receive_timeout_now(struct raft *r, const struct raft_message *m)
{
    if (m->term.v != r->term.v || r->role == RAFT_LEADER || r->role == RAFT_CANDIDATE ||
        !raft_id_equal(m->from, r->leader) || !may_campaign(r)) {
        return;
    }
    raft__campaign(r, true);
}

/* The host does not want this member to lead: its log is good, what was made of it is not. */
int raft__abstain(struct raft *r)
{
    r->cfg.abstains = true;
    if (r->role == RAFT_PRE_CANDIDATE || r->role == RAFT_CANDIDATE) {
        raft__become_follower(r, r->term, raft__nobody());
        r->election_deadline = RAFT_NEVER;
        raft__arm_election(r);
    }
    return 0;
}

void raft__receive_resign(struct raft *r, const struct raft_message *m)
{
    if (m->term.v == r->term.v && r->role == RAFT_FOLLOWER && raft_id_equal(m->from, r->leader)) {
        raft__become_follower(r, r->term, raft__nobody());
        raft__arm_election(r);
    }
}

/* ---- liveness -------------------------------------------------------------------------------- */

void raft__peer_down(struct raft *r, struct raft_id id)
{
    if (raft_id_equal(id, r->cfg.id) || !raft__is_up(r, id)) {
        return;
    }
    raft__set_live(r, id, false);
    if (r->role == RAFT_LEADER) {
        struct raft_peer *p = raft__peer(r, id);
        if (p != NULL) {
            p->up = false;
            raft__peer_probe(r, p);
        }
        if (raft_id_equal(id, r->transfer_to)) {
            raft__transfer_clear(r, true);
        }
        if (!raft__quorum_reachable(r, raft__members(r))) {
            raft__resign(r); /* E4 */
        }
        return;
    }
    if (raft_id_equal(id, r->leader)) {
        raft__become_follower(r, r->term, raft__nobody());
        raft__arm_election(r);
    }
}

void raft__peer_up(struct raft *r, struct raft_id id)
{
    if (raft_id_equal(id, r->cfg.id)) {
        return;
    }
    if (raft__is_up(r, id)) {
        if (r->role == RAFT_LEADER) {
            /* A reset of the link alone does not cost leadership. */
            struct raft_peer *p = raft__peer(r, id);
            if (p != NULL) {
                raft__peer_probe(r, p);
                raft__send_append(r, p, true);
            }
            return;
        }
        raft__peer_down(r, id);
    }
    raft__set_live(r, id, true);
    if (r->role == RAFT_LEADER) {
        struct raft_peer *p = raft__peer(r, id);
        if (p != NULL) {
            p->up = true;
            raft__peer_probe(r, p);
            raft__send_append(r, p, true); /* it learns leader, term and commit */
        }
        return;
    }
    if (!raft__has_live_leader(r) || raft_id_equal(id, r->leader)) {
        /* The leader, heard of over a link that was not up yet, must be heard again, or we ask. */
        raft__arm_election(r);
    }
}
