/*
 * What: for tests of pmap only: operations with a hash that the test chooses, to reach the nodes
 * that hold keys of equal hash.
 */
#ifndef WR_PMAP_INTERNAL_H
#define WR_PMAP_INTERNAL_H

#include "warren/pmap.h"

struct pref *pmap__get(const struct pmap *root, uint64_t hash, struct bytes key);
struct pmap *pmap__set(struct pmap *root, uint64_t hash, struct bytes key, struct pref *value);
struct pmap *pmap__remove(struct pmap *root, uint64_t hash, struct bytes key);

#endif
