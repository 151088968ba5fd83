/* The program that runs the unit tests of a folder.
 *
 * Criterion runs each test in a process of its own, which does not come through here. This process
 * only counts results: what leaks in it is Criterion's (2.4.1 loses the node of a timer when the
 * last test that ends has a time limit), so leaks are looked for in the tests' processes alone.
 * Their reports do not change the exit code: ./dev test looks for them in what the tests printed.
 */
#include <criterion/criterion.h>

void __lsan_disable(void) __attribute__((weak));

int main(int argc, char **argv)
{
    if (__lsan_disable != NULL) {
        __lsan_disable();
    }
    struct criterion_test_set *tests = criterion_initialize();
    int rc = 0;
    if (criterion_handle_args(argc, argv, true)) {
        rc = criterion_run_all_tests(tests) ? 0 : 1;
    }
    criterion_finalize(tests);
    return rc;
}
