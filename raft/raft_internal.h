/*
 * State of one Raft member and the functions its files share. Private to raft/.
 *
 * Reading order: raft_step.c (dispatch and the end of each step), raft_log.c, raft_election.c,
 * raft_append.c (follower), raft_replicate.c (leader), raft_commit.c; then the rest.
 *
 * Handlers only change state and note what is owed (a vote, an answer, a hard state to write);
 * raft__finish() at the end of each step turns what is owed and now true into the update. That is
 * why a message can never be emitted before the completion that makes it true.
 */
#ifndef WR_RAFT_INTERNAL_H
#define WR_RAFT_INTERNAL_H

#include "warren/raft.h"

#define RAFT_ASSERT(x)                                                                             \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            raft__assert_failed(#x, __FILE__, __LINE__);                                           \
        }                                                                                          \
    } while (0)

#define RAFT_NEVER UINT64_MAX

/* Pending read-index requests kept per member; more are refused. */
#define RAFT_READS_MAX 4096u

/* A run of entries of one term: from `begin` up to the next run (or the end of the log). */
struct raft_run {
    uint64_t begin;
    struct raft_term term;
};

/*
 * The log's terms for (base, last], its payloads for [cache_begin, last].
 *   base <= persisted <= last, base <= handed <= last, persisted <= handed
 *   base < cache_begin <= last + 1
 */
struct raft_log {
    uint64_t base;
    struct raft_term base_term;
    uint64_t last;
    uint64_t cache_begin;
    uint64_t persisted;  /* durable prefix */
    uint64_t handed;     /* given to the host for writing */
    uint64_t generation; /* of the log's suffix; +1 at each truncation */
    struct raft_run *runs;
    uint32_t run_count;
    uint32_t run_capacity;
    uint32_t ring_capacity; /* power of two or 0; slot of an index = index & (capacity - 1) */
    struct raft_entry *ring;
    uint64_t cached_bytes;
};

/* Membership in force from `index` on. */
struct raft_config_point {
    uint64_t index;
    uint32_t count;
    struct raft_member *members;
};

struct raft_inflight {
    uint64_t last;
    uint64_t bytes;
};

enum raft_snapshot_phase {
    RAFT_SNAPSHOT_IDLE = 0, /* next thing: want a chunk */
    RAFT_SNAPSHOT_WANTED,   /* host was asked for a chunk */
    RAFT_SNAPSHOT_SENT,     /* chunk is under way to the peer */
    RAFT_SNAPSHOT_FAILED,   /* host could not; ask again at the resend time */
};

/* The leader's view of one other member. */
struct raft_peer {
    struct raft_id id;
    enum raft_member_role role;
    enum raft_progress_state state;
    bool up;
    bool probing;          /* PROBE: an append is unanswered */
    bool reading;          /* the host was asked for old entries */
    bool read_failed;      /* ... and could not give them: ask again at the resend time */
    uint64_t match;        /* durable there, never falls within a term */
    uint64_t next;         /* > match */
    uint64_t commit_sent;  /* commit index in the last append */
    uint64_t commit_acked; /* commit index in the best answer */
    uint64_t probe_sent;   /* read-index rounds */
    uint64_t probe_acked;
    uint64_t sent_ms;               /* last message to or last answer from the peer */
    struct raft_inflight *inflight; /* ring, PIPELINE only */
    uint32_t inflight_capacity;
    uint32_t inflight_head;
    uint32_t inflight_count;
    uint64_t inflight_bytes;
    enum raft_snapshot_phase snapshot_phase;
    uint64_t snapshot_index;  /* 0: none chosen by the host yet; kept over a link reset to resume */
    uint64_t snapshot_offset; /* next byte the peer wants */
    uint64_t snapshot_note;   /* of its host, with the last answer about snapshot_index */
};

struct raft_pending_read {
    uint64_t context;
    struct raft_id from; /* self or the follower that asked */
    uint64_t index;
    uint64_t round; /* 0: waits for a round */
};

/* A snapshot being received. `installing`: all chunks are with the host, the log is frozen. */
struct raft_incoming {
    bool active;
    bool busy; /* a chunk is with the host */
    bool installing;
    struct raft_id from;
    struct raft_term leader_term;
    uint64_t index;
    struct raft_term term;
    uint64_t offset;
    uint64_t note; /* of the host, with the last chunk stored */
    uint32_t member_count;
    struct raft_member *members; /* room for RAFT_MEMBERS_MAX, allocated while active */
};

/* What this step produces. Arrays are kept and reused. */
struct raft_out {
    uint32_t flags;
    uint64_t truncate_from;
    uint64_t proposed_first;
    struct raft_message *messages;
    uint32_t *message_entries; /* parallel: offset of its entries in `entries` */
    uint32_t message_count;
    uint32_t message_capacity;
    uint32_t message_entries_capacity;
    struct raft_entry *entries;
    uint32_t entry_count;
    uint32_t entry_capacity;
    struct raft_read *reads;
    uint32_t read_count;
    uint32_t read_capacity;
    struct raft_entries_want *entries_wants;
    uint32_t entries_want_count;
    uint32_t entries_want_capacity;
    struct raft_snapshot_want *snapshot_wants;
    uint32_t snapshot_want_count;
    uint32_t snapshot_want_capacity;
    struct raft_message chunk;
};

struct raft {
    struct raft_config cfg;
    struct raft_log log;
    struct raft_config_point *configs; /* ascending; [0] is in force at log.base */
    uint32_t config_count;
    uint32_t config_capacity;

    bool started;
    bool broken;          /* restore failed: only raft_free is allowed */
    bool restore_discard; /* the stored log does not continue the snapshot */
    bool restore_dropped; /* the stored entries end before the snapshot does */
    uint64_t restore_hint;

    struct raft_term term;
    struct raft_id vote;
    bool hard_dirty;
    uint64_t hard_generation; /* last one handed out */
    uint64_t hard_durable;    /* last one known durable */

    enum raft_role role;
    struct raft_id leader;
    uint64_t commit;   /* <= log.last */
    uint64_t applying; /* handed out for applying, <= min(commit, persisted) */
    uint64_t applied;  /* <= applying */
    uint64_t now_ms;
    uint64_t random;

    struct raft_id *live; /* members the host says are up, sorted */
    uint32_t live_count;
    uint32_t live_capacity;

    /* Elections. Bit i of the masks = i-th member in force. */
    uint64_t election_deadline;
    uint32_t election_attempt;
    uint64_t votes_granted;
    bool votes_requested; /* CANDIDATE: own vote is durable, requests are out */
    bool campaign_transfer;
    struct raft_id vote_owed; /* a granted vote is answered once the hard state is durable */

    /* Follower of (term, leader). */
    uint64_t verified;   /* equal to the leader's log up to here; <= last */
    uint64_t probe_seen; /* read-index round */
    uint64_t probe_told;
    uint64_t match_told;
    bool answer_owed;
    bool snapshot_answer_owed;
    struct raft_message snapshot_answer;
    struct raft_incoming incoming;

    /* Leader of `term`. */
    struct raft_peer *peers; /* membership without self, in id order */
    uint32_t peer_count;
    uint64_t term_begin; /* index of this term's BARRIER */
    uint64_t notice_deadline;
    uint64_t uncommitted_bytes;
    struct raft_id transfer_to;
    uint64_t transfer_deadline;
    bool transfer_sent;

    struct raft_pending_read *reads; /* leader: all; follower: own, forwarded */
    uint32_t read_count;
    uint32_t read_capacity;
    uint64_t read_round;
    uint64_t read_round_done;
    uint64_t change_round; /* what the voters of a next membership must echo (M4); 0: not asked */
    uint64_t change_asked_ms;

    struct raft_out out;
};

/* raft_mem.c */
void raft__assert_failed(const char *expression, const char *file, int line)
    __attribute__((noreturn));
void *raft__alloc(struct raft *r, size_t size);
void raft__release(struct raft *r, void *p);
/* Grows *array (elements of `size` bytes) to hold `need`. */
void raft__reserve(struct raft *r, void **array, uint32_t *capacity, uint32_t need, size_t size);
uint64_t raft__random(struct raft *r, uint64_t bound);
void raft__ref(struct raft *r, void *owner);
void raft__unref(struct raft *r, void *owner);

/* raft_log.c */
bool raft__log_has(const struct raft *r, uint64_t index);              /* base <= index <= last */
struct raft_term raft__log_term(const struct raft *r, uint64_t index); /* requires raft__log_has */
bool raft__log_match(const struct raft *r, uint64_t index, struct raft_term term);
struct raft_entry *raft__log_slot(const struct raft *r, uint64_t index); /* NULL: not cached */
void raft__log_append(struct raft *r,
                      const struct raft_entry *e); /* index = last + 1; refs the owner */
void raft__log_append_trimmed(struct raft *r, struct raft_term term);
void raft__log_truncate(struct raft *r, uint64_t from);
void raft__log_compact(struct raft *r, uint64_t index);
void raft__log_reset(struct raft *r, uint64_t index, struct raft_term term);
void raft__log_trim(struct raft *r, uint64_t index);
uint64_t raft__log_find(const struct raft *r, uint64_t index, struct raft_term term);
void raft__log_deinit(struct raft *r);

/* raft_quorum.c: pure */
uint32_t raft__majority(uint32_t voters);
/* The largest value that a majority of `values` reaches. count >= 1; sorts in place. */
uint64_t raft__quorum_value(uint64_t *values, uint32_t count);

/* raft_members.c */
const struct raft_config_point *raft__members(const struct raft *r);
const struct raft_config_point *raft__members_at(const struct raft *r, uint64_t index);
int raft__members_find(const struct raft_config_point *c, struct raft_id id); /* -1: no */
uint32_t raft__voter_count(const struct raft_config_point *c);
bool raft__members_valid(const struct raft_member *members, uint32_t count);
void raft__members_push(struct raft *r, uint64_t index, const struct raft_member *members,
                        uint32_t count);
void raft__members_truncate(struct raft *r, uint64_t from);
void raft__members_compact(struct raft *r, uint64_t index);
void raft__members_clear(struct raft *r);
bool raft__is_up(const struct raft *r, struct raft_id id);
void raft__set_live(struct raft *r, struct raft_id id, bool up);
bool raft__quorum_reachable(const struct raft *r, const struct raft_config_point *c);
int raft__change(struct raft *r, enum raft_change_type type, struct raft_id member);
int raft__force_sole(struct raft *r);

/* raft_election.c */
bool raft__hard_is_durable(const struct raft *r);
bool raft__has_live_leader(const struct raft *r);
void raft__arm_election(struct raft *r);
int raft__abstain(struct raft *r);
void raft__election_timeout(struct raft *r);
void raft__campaign(struct raft *r, bool transfer);
void raft__become_follower(struct raft *r, struct raft_term term, struct raft_id leader);
void raft__resign(struct raft *r);
void raft__hard_state_durable(struct raft *r);
void raft__receive_vote(struct raft *r, const struct raft_message *m);
void raft__receive_vote_response(struct raft *r, const struct raft_message *m);
void raft__receive_timeout_now(struct raft *r, const struct raft_message *m);
void raft__receive_resign(struct raft *r, const struct raft_message *m);
void raft__peer_up(struct raft *r, struct raft_id id);
void raft__peer_down(struct raft *r, struct raft_id id);

/* raft_append.c */
int raft__receive_append(struct raft *r, const struct raft_message *m);
void raft__answer_leader(struct raft *r);
void raft__reject_append(struct raft *r, struct raft_id to, uint64_t rejected_index);

/* raft_replicate.c */
int raft__propose(struct raft *r, struct raft_term term, const struct raft_entry *entries,
                  uint32_t count);
void raft__append_own(struct raft *r, enum raft_entry_kind kind, const uint8_t *data, uint32_t size,
                      void *owner);
int raft__receive_append_response(struct raft *r, const struct raft_message *m);
int raft__entries_read(struct raft *r, const struct raft_event *ev);
void raft__replicate(struct raft *r);
void raft__send_append(struct raft *r, struct raft_peer *p, bool with_entries);

/* raft_progress.c */
struct raft_peer *raft__peer(const struct raft *r, struct raft_id id);
void raft__peers_reconcile(struct raft *r);
void raft__peers_free(struct raft *r);
void raft__peer_probe(struct raft *r, struct raft_peer *p);
void raft__peer_pipeline(struct raft *r, struct raft_peer *p);
void raft__peer_snapshot(struct raft_peer *p);
bool raft__peer_unsettled(const struct raft_peer *p);
void raft__inflight_push(struct raft *r, struct raft_peer *p, uint64_t last, uint64_t bytes);
void raft__inflight_release(struct raft_peer *p, uint64_t match);
void raft__inflight_clear(struct raft_peer *p);

/* raft_commit.c */
void raft__commit_to(struct raft *r, uint64_t index);
void raft__commit_count(struct raft *r);

/* raft_read.c */
int raft__read_request(struct raft *r, uint64_t context, struct raft_id from);
void raft__read_advance(struct raft *r);
bool raft__round_confirmed(const struct raft *r, const struct raft_config_point *c, uint64_t round);
void raft__read_fail_all(struct raft *r);
void raft__receive_read_response(struct raft *r, const struct raft_message *m);

/* raft_snapshot.c */
int raft__receive_chunk(struct raft *r, const struct raft_message *m);
int raft__receive_snapshot_response(struct raft *r, const struct raft_message *m);
int raft__snapshot_chunk(struct raft *r, const struct raft_event *ev);
int raft__snapshot_failed(struct raft *r, struct raft_id id);
int raft__snapshot_stored(struct raft *r, uint64_t index, uint64_t offset, uint64_t note);
int raft__snapshot_installed(struct raft *r, uint64_t index);
int raft__snapshot_refused(struct raft *r, uint64_t index);
void raft__snapshot_abort(struct raft *r);
void raft__snapshot_want(struct raft *r, struct raft_peer *p);

/* raft_transfer.c */
int raft__transfer(struct raft *r, struct raft_id to);
void raft__transfer_advance(struct raft *r);
void raft__transfer_clear(struct raft *r, bool given_up);
struct raft_peer *raft__best_successor(struct raft *r);

/* raft_step.c */
struct raft_message *raft__message(struct raft *r, enum raft_message_type type, struct raft_id to);
void raft__finish(struct raft *r, struct raft_update *u);

static inline struct raft_id raft__nobody(void)
{
    return (struct raft_id){0, 0};
}

static inline uint64_t raft__min(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t raft__max(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* now + delay without wrapping into "never". */
static inline uint64_t raft__after(const struct raft *r, uint64_t delay_ms)
{
    return r->now_ms > RAFT_NEVER - 1 - delay_ms ? RAFT_NEVER - 1 : r->now_ms + delay_ms;
}

#endif
