/* Signals become requests; a second Ctrl-C ends the process. */
#include "testing.h"

#include <signal.h>
#include <sys/wait.h>

#include "base/signals.h"

static void interrupts_and_terminations_ask_to_stop(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        crank_context *context = crank_context_new();
        assert_ok(context, signals_watch(context));
        assert_false(crank_stop_requested(context));
        raise(i ? SIGTERM : SIGINT);
        assert_true(crank_stop_requested(context));
        if (i) raise(SIGTERM); /* a scheduler may repeat it */
        signals_unwatch(context);
        crank_context_free(context);
    }
}

static void a_second_interrupt_ends_the_process(void **state)
{
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        crank_context *context = crank_context_new();
        signals_watch(context);
        raise(SIGINT);
        if (!crank_stop_requested(context)) _exit(7);
        raise(SIGINT);
        _exit(8);
    }
    int status;
    waitpid(child, &status, 0);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);
}

static void user_signal_asks_for_a_checkpoint_once(void **state)
{
    (void)state;
    crank_context *context = crank_context_new();
    assert_ok(context, signals_watch(context));
    assert_false(signals_take_checkpoint());
    raise(SIGUSR1);
    raise(SIGUSR1);
    assert_true(signals_take_checkpoint());
    assert_false(signals_take_checkpoint());
    assert_false(crank_stop_requested(context));
    signals_unwatch(context);
    crank_context_free(context);
}

static volatile sig_atomic_t own;
static void own_handler(int number) { own = number; }

static void one_context_at_a_time_is_watched_and_old_handlers_return(void **state)
{
    (void)state;
    crank_context *first = crank_context_new(), *second = crank_context_new();
    signal(SIGTERM, own_handler);
    assert_ok(first, signals_watch(first));
    assert_int_equal(signals_watch(second), CRANK_USAGE);
    signals_unwatch(second); /* not its own: nothing happens */
    raise(SIGTERM);
    assert_true(crank_stop_requested(first) && !crank_stop_requested(second) && own == 0);
    signals_unwatch(first);
    raise(SIGTERM);
    assert_int_equal(own, SIGTERM);
    assert_ok(second, signals_watch(second));
    signals_unwatch(second);
    signal(SIGTERM, SIG_DFL);
    crank_context_free(first);
    crank_context_free(second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(interrupts_and_terminations_ask_to_stop),
        cmocka_unit_test(a_second_interrupt_ends_the_process),
        cmocka_unit_test(user_signal_asks_for_a_checkpoint_once),
        cmocka_unit_test(one_context_at_a_time_is_watched_and_old_handlers_return),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
