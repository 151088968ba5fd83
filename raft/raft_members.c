/*
 * What: membership as a function of the log prefix, its encoding, its changes, and which members
 * are up.
 *
 * Invariants:
 *   M1  The membership in force is that of the last CONFIG entry in the log (committed or not),
 * else that of the snapshot; truncation reverts it (pitfall R13). configs[] holds one point per
 * CONFIG entry after the base, plus the one in force at the base. M2  At most one CONFIG entry is
 * uncommitted, one member differs, and the leader has committed an entry of its own term before
 * proposing one (pitfall R12, Ongaro's note of 2015). So any two majorities overlap. M3  A learner
 * is promoted only when it is up and what it has durable reaches the commit index (R14). Ownership:
 * configs[].members belong to the core. Spec: thesis 4.1, 4.2.1 (learners), 4.2.2 (a leader removes
 * itself).
 */
#include "raft_internal.h"

#include <string.h>

/* ---- encoding -------------------------------------------------------------------------------- */

enum { MEMBERSHIP_VERSION = 1, MEMBER_BYTES = 17 };

static void put_u64(uint8_t *p, uint64_t v)
{
    for (int i = 0; i < 8; i++) {
        p[i] = (uint8_t)(v >> (56 - 8 * i));
    }
}

static uint64_t get_u64(const uint8_t *p)
{
    uint64_t v = 0;
    for (int i = 0; i < 8; i++) {
        v = v << 8 | p[i];
    }
    return v;
}

bool raft__members_valid(const struct raft_member *members, uint32_t count)
{
    if (count > RAFT_MEMBERS_MAX || (count > 0 && members == NULL)) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (raft_id_is_zero(members[i].id) ||
            (members[i].role != RAFT_VOTER && members[i].role != RAFT_LEARNER)) {
            return false;
        }
        if (i > 0 && raft_id_compare(members[i - 1].id, members[i].id) >= 0) {
            return false;
        }
    }
    return true;
}

size_t raft_membership_encode(const struct raft_membership *m, uint8_t *buf)
{
    RAFT_ASSERT(raft__members_valid(m->members, m->count));
    uint8_t *p = buf;
    *p++ = MEMBERSHIP_VERSION;
    *p++ = (uint8_t)m->count;
    for (uint32_t i = 0; i < m->count; i++) {
        put_u64(p, m->members[i].id.hi);
        put_u64(p + 8, m->members[i].id.lo);
        p[16] = (uint8_t)m->members[i].role;
        p += MEMBER_BYTES;
    }
    return (size_t)(p - buf);
}

int raft_membership_decode(const uint8_t *data, size_t size, struct raft_member *members,
                           uint32_t *ret_count)
{
    if (data == NULL || size < 2 || data[0] != MEMBERSHIP_VERSION) {
        return RAFT_E_CORRUPT;
    }
    uint32_t count = data[1];
    if (count > RAFT_MEMBERS_MAX || size != 2 + (size_t)count * MEMBER_BYTES) {
        return RAFT_E_CORRUPT;
    }
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *p = data + 2 + (size_t)i * MEMBER_BYTES;
        members[i].id = (struct raft_id){get_u64(p), get_u64(p + 8)};
        members[i].role = (enum raft_member_role)p[16];
    }
    if (!raft__members_valid(members, count)) {
        return RAFT_E_CORRUPT;
    }
    *ret_count = count;
    return 0;
}

/* ---- history --------------------------------------------------------------------------------- */

const struct raft_config_point *raft__members(const struct raft *r)
{
    RAFT_ASSERT(r->config_count > 0);
    return &r->configs[r->config_count - 1];
}

const struct raft_config_point *raft__members_at(const struct raft *r, uint64_t index)
{
    RAFT_ASSERT(index >= r->log.base);
    uint32_t i = r->config_count - 1;
    while (i > 0 && r->configs[i].index > index) {
        i--;
    }
    return &r->configs[i];
}

int raft__members_find(const struct raft_config_point *c, struct raft_id id)
{
    for (uint32_t i = 0; i < c->count; i++) {
        if (raft_id_equal(c->members[i].id, id)) {
            return (int)i;
        }
    }
    return -1;
}

uint32_t raft__voter_count(const struct raft_config_point *c)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        n += c->members[i].role == RAFT_VOTER ? 1 : 0;
    }
    return n;
}

void raft__members_push(struct raft *r, uint64_t index, const struct raft_member *members,
                        uint32_t count)
{
    RAFT_ASSERT(raft__members_valid(members, count));
    RAFT_ASSERT(r->config_count == 0 || raft__members(r)->index < index);
    raft__reserve(r, (void **)&r->configs, &r->config_capacity, r->config_count + 1,
                  sizeof *r->configs);
    struct raft_config_point *c = &r->configs[r->config_count++];
    c->index = index;
    c->count = count;
    c->members = NULL;
    if (count > 0) {
        c->members = raft__alloc(r, count * sizeof *members);
        memcpy(c->members, members, count * sizeof *members);
    }
    r->out.flags |= RAFT_UPDATE_MEMBERSHIP;
}

void raft__members_truncate(struct raft *r, uint64_t from)
{
    while (r->config_count > 1 && raft__members(r)->index >= from) {
        r->config_count--;
        raft__release(r, r->configs[r->config_count].members);
        r->out.flags |= RAFT_UPDATE_MEMBERSHIP;
    }
}

void raft__members_compact(struct raft *r, uint64_t index)
{
    uint32_t drop = 0;
    while (drop + 1 < r->config_count && r->configs[drop + 1].index <= index) {
        raft__release(r, r->configs[drop].members);
        drop++;
    }
    memmove(r->configs, r->configs + drop, (r->config_count - drop) * sizeof *r->configs);
    r->config_count -= drop;
}

void raft__members_clear(struct raft *r)
{
    for (uint32_t i = 0; i < r->config_count; i++) {
        raft__release(r, r->configs[i].members);
    }
    r->config_count = 0;
}

/* ---- who is up ------------------------------------------------------------------------------- */

static uint32_t live_position(const struct raft *r, struct raft_id id, bool *ret_found)
{
    uint32_t low = 0;
    uint32_t high = r->live_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (raft_id_compare(r->live[middle], id) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *ret_found = low < r->live_count && raft_id_equal(r->live[low], id);
    return low;
}

bool raft__is_up(const struct raft *r, struct raft_id id)
{
    bool found = false;
    (void)live_position(r, id, &found);
    return found;
}

void raft__set_live(struct raft *r, struct raft_id id, bool up)
{
    bool found = false;
    uint32_t at = live_position(r, id, &found);
    if (found == up) {
        return;
    }
    if (!up) {
        r->live_count--;
        memmove(r->live + at, r->live + at + 1, (r->live_count - at) * sizeof *r->live);
        return;
    }
    raft__reserve(r, (void **)&r->live, &r->live_capacity, r->live_count + 1, sizeof *r->live);
    memmove(r->live + at + 1, r->live + at, (r->live_count - at) * sizeof *r->live);
    r->live[at] = id;
    r->live_count++;
}

/* Self and the voters that are up are a majority of the voters (self counts only as a voter). */
bool raft__quorum_reachable(const struct raft *r, const struct raft_config_point *c)
{
    uint32_t up = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        if (c->members[i].role == RAFT_VOTER &&
            (raft_id_equal(c->members[i].id, r->cfg.id) || raft__is_up(r, c->members[i].id))) {
            up++;
        }
    }
    uint32_t voters = raft__voter_count(c);
    return voters > 0 && up >= raft__majority(voters);
}

/* ---- changes --------------------------------------------------------------------------------- */

static void append_config(struct raft *r, const struct raft_member *members, uint32_t count)
{
    uint8_t buf[RAFT_MEMBERSHIP_BYTES_MAX];
    struct raft_membership m = {count, members};
    uint32_t size = (uint32_t)raft_membership_encode(&m, buf);
    const uint8_t *data = NULL;
    void *owner = r->cfg.payload.create(r->cfg.payload.ctx, buf, size, &data);
    raft__append_own(r, RAFT_ENTRY_CONFIG, data, size, owner);
    raft__unref(r, owner); /* the log has its own reference */
    raft__members_push(r, r->log.last, members, count);
}

static int change_add(const struct raft_config_point *now, struct raft_id id,
                      struct raft_member *members, uint32_t *count)
{
    if (raft__members_find(now, id) >= 0) {
        return RAFT_E_MEMBER_EXISTS;
    }
    if (now->count == RAFT_MEMBERS_MAX) {
        return RAFT_E_TOO_MANY;
    }
    uint32_t at = 0;
    while (at < now->count && raft_id_compare(members[at].id, id) < 0) {
        at++;
    }
    memmove(members + at + 1, members + at, (now->count - at) * sizeof *members);
    members[at] = (struct raft_member){id, RAFT_LEARNER};
    *count = now->count + 1;
    return 0;
}

static int change_promote(const struct raft *r, struct raft_id id, struct raft_member *member)
{
    if (member->role == RAFT_VOTER) {
        return RAFT_E_MEMBER_EXISTS;
    }
    const struct raft_peer *p = raft__peer(r, id);
    /* A leader that is a learner itself is demoting itself: the pending change was refused before.
     */
    if (p == NULL || !p->up || p->match < r->commit) {
        return RAFT_E_NOT_CAUGHT_UP;
    }
    member->role = RAFT_VOTER;
    return 0;
}

/* A learner that comes or goes changes no majority. */
static bool same_voters(const struct raft_config_point *a, const struct raft_config_point *b)
{
    return raft__voter_count(a) == raft__voter_count(b);
}

/* M4. The question is a round number, as for reads; the answer is found when the caller asks again.
 * One question serves all changes that are thought of meanwhile. */
static bool change_confirmed(struct raft *r, const struct raft_config_point *next)
{
    if (r->change_round == 0 || r->now_ms >= r->change_asked_ms + r->cfg.resend_ms) {
        r->change_round = r->read_round + 1;
        r->change_asked_ms = r->now_ms;
    }
    if (raft__round_confirmed(r, next, r->change_round)) {
        return true;
    }
    r->read_round = raft__max(r->read_round, r->change_round);
    return false;
}

int raft__change(struct raft *r, enum raft_change_type type, struct raft_id id)
{
    if (r->role != RAFT_LEADER) {
        return RAFT_E_NOT_LEADER;
    }
    if (!raft_id_is_zero(r->transfer_to)) {
        return RAFT_E_BUSY;
    }
    if (!raft_is_ready(r)) {
        return RAFT_E_NOT_READY;
    }
    const struct raft_config_point *now = raft__members(r);
    if (now->index > r->commit) {
        return RAFT_E_CONFIG_PENDING;
    }
    if (raft_id_is_zero(id)) {
        return RAFT_E_UNKNOWN_MEMBER;
    }
    struct raft_member members[RAFT_MEMBERS_MAX + 1];
    uint32_t count = now->count;
    memcpy(members, now->members, now->count * sizeof *members);
    int at = raft__members_find(now, id);
    int err = 0;
    if (type == RAFT_CHANGE_ADD_LEARNER) {
        err = change_add(now, id, members, &count);
    } else if (at < 0) {
        err = RAFT_E_UNKNOWN_MEMBER;
    } else if (type == RAFT_CHANGE_PROMOTE) {
        err = change_promote(r, id, &members[at]);
    } else if (type == RAFT_CHANGE_DEMOTE) {
        err = members[at].role == RAFT_LEARNER ? RAFT_E_MEMBER_EXISTS : 0;
        members[at].role = RAFT_LEARNER;
    } else {
        RAFT_ASSERT(type == RAFT_CHANGE_REMOVE);
        count--;
        memmove(members + at, members + at + 1, (count - (uint32_t)at) * sizeof *members);
    }
    if (err != 0) {
        return err;
    }
    struct raft_config_point next = {0, count, members};
    if (!raft__quorum_reachable(r, &next)) {
        return RAFT_E_NO_QUORUM;
    }
    if (!same_voters(now, &next) && !change_confirmed(r, &next)) {
        return RAFT_E_UNCONFIRMED;
    }
    r->change_round = 0;
    append_config(r, members, count);
    r->out.proposed_first = r->log.last;
    raft__peers_reconcile(r);
    return 0;
}

/*
 * The operator's last resort: the majority is lost for good, this member goes on alone with what
 * its log has. A new term with a vote for itself and a membership of itself; it leads as soon as
 * the vote is durable. Unsafe if the others still run: nothing here can know.
 */
int raft__force_sole(struct raft *r)
{
    if (r->role == RAFT_LEADER || r->incoming.installing) {
        return RAFT_E_BUSY;
    }
    struct raft_member sole = {r->cfg.id, RAFT_VOTER};
    raft__become_follower(r, (struct raft_term){r->term.v + 1}, raft__nobody());
    append_config(r, &sole, 1);
    r->role = RAFT_CANDIDATE;
    r->vote = r->cfg.id;
    r->hard_dirty = true;
    r->votes_granted = 0;
    r->votes_requested = false;
    r->campaign_transfer = false;
    r->election_deadline = RAFT_NEVER;
    return 0;
}
