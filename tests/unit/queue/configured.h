#ifndef WR_TEST_CONFIGURED_H
#define WR_TEST_CONFIGURED_H
/* A rig whose queue has the configuration that the test sets; for suites of single features. */
#include <criterion/criterion.h>

#include "rig.h"
#include "queue_internal.h"

static struct rig rig;
static struct queue_config config;

#define A CLIENT(1, 1)
#define B CLIENT(1, 2)
#define C CLIENT(2, 3)
#define D CLIENT(3, 4)

static void setup(void)
{
    queue_config_default(&config);
    rig_init(&rig, &config);
    rig.now = 1000;
}

static void teardown(void)
{
    rig_deinit(&rig);
}

/* The queue anew, with `config` as it is now. */
static void restart(void)
{
    rig_deinit(&rig);
    rig_init(&rig, &config);
    rig.now = 1000;
}

static struct queue_totals totals(void)
{
    struct queue_totals t;
    queue_totals(rig.queue, &t);
    return t;
}

#endif
