#ifndef WR_SIM_COVER_H
#define WR_SIM_COVER_H
/*
 * Rare events that a batch of seeds must have met: a simulator that finds nothing may just not get
 * anywhere. Counted per run, added up over a batch, printed with --coverage; with it a batch in
 * which one was never met fails. Seen from outside the product, in states and effects.
 */
#include <stdint.h>

#define SIM_SEEN_TABLE(X)                                                                          \
    X(SIM_SEEN_LEADER, "somebody became leader")                                                   \
    X(SIM_SEEN_LEADER_AGAIN, "a group changed its leader")                                         \
    X(SIM_SEEN_TRUNCATED, "a follower replaced a suffix of its log")                               \
    X(SIM_SEEN_OLD_TERM_COMMITTED, "a new leader committed entries of older terms")                \
    X(SIM_SEEN_SNAPSHOT, "a snapshot from the leader was installed")                               \
    X(SIM_SEEN_SNAPSHOT_CUT, "... while a partition was in force")                                 \
    X(SIM_SEEN_SNAPSHOT_AGAIN, "... over an earlier state")                                        \
    X(SIM_SEEN_COMPACTED, "a replica compacted its log")                                           \
    X(SIM_SEEN_PROMOTED, "a learner became a voter")                                               \
    X(SIM_SEEN_REMOVED, "a leader removed a voter")                                                \
    X(SIM_SEEN_RESTARTED, "a replica came back with a log that was not empty")                     \
    X(SIM_SEEN_UNSYNCED, "a power failure found writes that were not durable")                     \
    X(SIM_SEEN_MAIL_FIRST, "mail came early, before bytes that were sent after it")                \
    X(SIM_SEEN_RESUMED, "a queue client began another session")                                    \
    X(SIM_SEEN_RESUMED_PENDING, "... with operations pending")                                     \
    X(SIM_SEEN_REDELIVERED, "a message came again")                                                \
    X(SIM_SEEN_REDELIVERED_LEADER, "... soon after a change of leader")                            \
    X(SIM_SEEN_AHEAD, "a message was handed out before the log had the ack before it")             \
    X(SIM_SEEN_AHEAD_LOST, "... and the node ended before the log had it")                         \
    X(SIM_SEEN_SETTLED, "an ack was known to be applied")                                          \
    X(SIM_SEEN_NACKED, "a publish was nacked")                                                     \
    X(SIM_SEEN_RIVAL_REFUSED, "an exclusive queue was refused to another connection")              \
    X(SIM_SEEN_RIVAL_OWNS, "an exclusive queue changed its owner")                                 \
    X(SIM_SEEN_AUTO_DELETED, "an auto-delete queue went with its consumer")                        \
    X(SIM_SEEN_ENDED, "confirmed messages ended with their queue")                                 \
    X(SIM_SEEN_FRAME_LOST, "a link lost a parcel")                                                 \
    X(SIM_SEEN_FRAME_TWICE, "a link delivered a parcel twice")                                     \
    X(SIM_SEEN_FRAME_LATE, "a link delivered a parcel late")                                       \
    X(SIM_SEEN_FORGOTTEN, "a dead node was forgotten")                                             \
    X(SIM_SEEN_TOLD, "a forgotten node was told so")                                               \
    X(SIM_SEEN_ALL_NEW_REFUSED, "a record of new replicas only was refused")                       \
    X(SIM_SEEN_CHANGE_KNOWN, "a change of the catalog was answered while no fault was at work")    \
    X(SIM_SEEN_COMMITTED, "a transaction was committed")                                           \
    X(SIM_SEEN_COMMIT_CUT, "a channel was lost while it committed")                                \
    X(SIM_SEEN_ROLLED_BACK, "a transaction was rolled back")                                       \
    X(SIM_SEEN_REPLY, "a reply came")                                                              \
    X(SIM_SEEN_REPLY_NODES, "... from another node")                                               \
    X(SIM_SEEN_CONFIRM_BACKED, "a confirm was checked against the disks")                          \
    X(SIM_SEEN_DEAD, "a dead letter was handed over")                                              \
    X(SIM_SEEN_DELAYED, "a delayed message was confirmed")                                         \
    X(SIM_SEEN_NUMBER_AGAIN, "a publisher sent its numbers again from another node")               \
    X(SIM_SEEN_MIRRORED, "a classic queue has the mirrors of its policy in the end")               \
    X(SIM_SEEN_NUMBER_AMQP, "numbers were sent again through another node, over AMQP")             \
    X(SIM_SEEN_REPLAYED, "a history was replayed that had let go of messages")                     \
    X(SIM_SEEN_TAKEN_AWAY, "a consumer held a message for too long")                               \
    X(SIM_SEEN_PEEKED, "a message was looked at")                                                  \
    X(SIM_SEEN_MOVED, "messages were moved")                                                       \
    X(SIM_SEEN_COPIED, "messages were copied")                                                     \
    X(SIM_SEEN_DELETED, "messages were deleted from a queue")                                      \
    X(SIM_SEEN_SEATED, "a user had several connections")                                           \
    X(SIM_SEEN_SEAT_REFUSED, "a connection was refused because of its user's limit")               \
    X(SIM_SEEN_BLOCKED, "a publisher was told that it is blocked")

enum sim_seen {
#define SIM_SEEN_ENUM(name, text) name,
    SIM_SEEN_TABLE(SIM_SEEN_ENUM)
#undef SIM_SEEN_ENUM
        SIM_SEEN_COUNT,
};

#define SIM_SOMETIMES(sim, condition, what) ((sim)->seen[(what)] += (condition) ? 1 : 0)

#endif
