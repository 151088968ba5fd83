#ifndef WR_PLANT_H
#define WR_PLANT_H
/*
 * Bugs planted to prove that the simulator finds them (docs/simulation.md). Only a build with
 * -Dplants=true has them, for warren-sim alone: `warren-sim --plant NAME` chooses one. In every
 * other build wr_planted() is false and costs nothing.
 */
#include <stdbool.h>

#define WR_PLANT_TABLE(X)                                                                          \
    X(ack_before_sync, "the log reports batches durable without a sync")                           \
    X(checkpoint_not_flushed, "log segments go before the checkpoint store was flushed")           \
    X(dedup_dropped, "ops that were applied are applied again when they are sent again")           \
    X(vote_not_persisted, "a vote is forgotten by a restart")                                      \
    X(commit_old_term, "an entry of an older term is committed by counting")                       \
    X(reused_sequence, "a client numbers its next op as the last one after a fail-over")           \
    X(settle_lost, "acks that are under way when the leader changes are not sent again")           \
    X(follower_serves, "a replica goes on to serve when it leads no more")                         \
    X(exclusive_survives, "an exclusive queue stays when its owner's connection ends")             \
    X(number_forgotten, "a publisher's number is not passed on to the queue")                      \
    X(binding_refused, "a binding that is applied before its queue is refused")                    \
    X(delay_forgotten, "what is to be delayed is ready at once")                                   \
    X(history_forgotten, "a history does not keep what is confirmed")                              \
    X(replay_short, "a replay leaves out the newest message")                                      \
    X(move_early, "a message that is moved is settled before the other queue has it")              \
    X(timeout_ignored, "a consumer may hold a message for ever")                                   \
    X(timeout_settles, "what a consumer held for too long is settled")                             \
    X(seats_unlimited, "a connection is let in though its user has no more")                       \
    X(seat_kept, "the seat of a connection that ended is not given back")                          \
    X(alarm_sticks, "other shards do not hear that there is memory again")                         \
    X(suspect_forgotten, "what was handed out ahead of a log that was lost comes as if new")       \
    X(machine_drifts, "a follower's machine differs: the product must find and replace it")        \
    X(drift_unnoticed, "the same, and replicas do not compare their machines")

enum wr_plant {
    WR_PLANT_NONE,
#define WR_PLANT_ENUM(name, text) WR_PLANT_##name,
    WR_PLANT_TABLE(WR_PLANT_ENUM)
#undef WR_PLANT_ENUM
};

#ifdef WR_PLANTS
extern enum wr_plant wr_plant; /* set once, by warren-sim, before anything runs */
static inline bool wr_planted(enum wr_plant plant)
{
    return wr_plant == plant;
}
#else
static inline bool wr_planted(enum wr_plant plant)
{
    (void)plant;
    return false;
}
#endif

static inline bool wr_planted_drift(void)
{
    return wr_planted(WR_PLANT_machine_drifts) || wr_planted(WR_PLANT_drift_unnoticed);
}

#endif
