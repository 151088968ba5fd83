/*
 * What: a persistent set of weighted bindings from which one is chosen, by a hash in proportion to
 * the weights or by rank. What is chosen depends on the content alone (names of destinations and
 * weights), never on the order of changes. Ownership: a tree holds a reference of each binding.
 * Threads: immutable; any may read and drop. Spec: docs/routing.md, "Shares".
 */
#ifndef WR_ROUTE_SHARES_H
#define WR_ROUTE_SHARES_H

#include "internal.h"

struct share_node; /* A tree; NULL = empty. */

/* A new tree (one reference); the old one is borrowed. A binding is in a tree once; remove: it must
 * be there. */
struct pref *shares_add(struct pref *tree, struct catalog_binding *binding, uint64_t weight);
struct pref *shares_remove(struct pref *tree, const struct catalog_binding *binding);

/* Number of bindings; sum of weights, where a destination counts with its oldest binding only. */
uint32_t shares_count(const struct pref *tree);
uint64_t shares_weight(const struct pref *tree);

/* The binding of that rank, which is below shares_count. */
const struct catalog_binding *shares_at(const struct pref *tree, uint32_t rank);

/* The binding that gets the hash: a destination's oldest, with probability weight / shares_weight.
 * shares_weight is not 0. */
const struct catalog_binding *shares_choose(const struct pref *tree, uint64_t hash);

#endif
