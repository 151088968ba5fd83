#ifndef WR_COMPARE_INTERNAL_H
#define WR_COMPARE_INTERNAL_H
/* Comparing the replicas of a group, shared by compare.c (who tells whom when), compare_digest.c
 * (what was told, and what follows from it) and compare_quarantine.c (what is done about it). */
#include "group.h"

#define COMPARE_KEPT 4u /* newest hashes kept of each member */

struct digest {
    uint64_t index, version, value; /* index 0: none */
};
struct compared {
    struct raft_id member;
    struct digest kept[COMPARE_KEPT];
    uint32_t next;
};
struct divergent {
    struct raft_id member;
    struct uid node;
    uint64_t index, value, majority; /* 0 after a restart of the member: not known any more */
};
struct compare {
    struct group *group;
    struct timer timer;
    VEC(struct compared) members;    /* self; on a leader all who told */
    VEC(struct divergent) divergent; /* leader: to be replaced */
    struct divergent self;           /* quarantined: why */
    uint64_t doubt;     /* leader: index at which some differ, and too few told; 0 = none */
    uint64_t undecided; /* index at which nobody was right: said once */
    uint32_t candidate; /* quarantined leader: who is to lead instead, in turn */
};

struct verdict {
    uint64_t majority;
    uint32_t voters, told, agree;
};

/* compare.c */
struct compare *compare_of(struct group *group);
void compare_arm(struct group *group);
void compare_send(struct group *group, uint8_t kind, struct uid node, struct raft_id member,
                  uint64_t a, uint64_t b, uint64_t c);
void compare_tell_quarantined(struct group *group);
/* compare_digest.c */
uint64_t compare_version_of(const struct group *group);
struct compared *compare_kept_of(struct compare *c, struct raft_id member);
const struct digest *compare_digest_at(struct compare *c, struct raft_id member, uint64_t index,
                                       uint64_t version);
void compare_remember(struct group *group, struct raft_id member, const struct digest *d);
struct verdict compare_judge(struct group *group, uint64_t index, uint64_t version);
/* compare_quarantine.c */
void compare_hand_over(struct group *group);
void compare_quarantine(struct group *group, const struct divergent *why);
void compare_accuse(struct group *group, const struct divergent *d);
void compare_say_undecided(struct group *group, uint64_t index);
bool compare_in_record(const struct group *group, struct raft_id member);
bool compare_in_group(const struct group *group, struct raft_id member);
void compare_forget_replaced(struct group *group);
void compare_replace_one(struct group *group);
#endif
