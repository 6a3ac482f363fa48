/* docs/rest.md and docs/metrics.md say what the tables say. */
#include "services/gateway/gateway.h"
#include "tests/support/document.h"

#include <check.h>
#include <jansson.h>
#include <stdlib.h>

START_TEST(rest_and_metrics_are_the_committed_ones)
{
    AUTO(buf) rest = {0};
    AUTO(buf) metrics = {0};
    ck_assert_int_eq(documents_rest(&rest), ERR_ok);
    ck_assert_int_eq(documents_metrics(&metrics), ERR_ok);
    document_check("docs/rest.md", &rest);
    document_check("docs/metrics.md", &metrics);
}
END_TEST

/* what the data manager and the trainer say of one update goes into one set of rows */
START_TEST(figures_have_one_meaning)
{
    static const char *const names[] = {
#define FIGURE(name, doc) #name,
#include "services/data/figures.def"
#include "services/data/method_figures.def"
#include "trainer/diagnostics.def"
#undef FIGURE
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        for (size_t k = 0; k < i; k++) ck_assert_str_ne(names[i], names[k]);
    }
}
END_TEST

START_TEST(openapi_has_every_route)
{
    AUTO(buf) text = {0};
    size_t count = 0;
    const struct web_route *routes = gateway_routes(&count);
    ck_assert_int_eq(documents_openapi(&text), ERR_ok);
    json_t *root = json_loadb(buf_chars(&text), text.size, 0, NULL);
    ck_assert_ptr_nonnull(root);
    for (size_t i = 0; i < count; i++) ck_assert_ptr_nonnull(json_object_get(json_object_get(root, "paths"), routes[i].path));
    json_decref(root);
}
END_TEST

/* two workers of a service: one head, two samples; what is no number is left out */
START_TEST(a_series_has_one_head)
{
    AUTO(buf) text = {0};
    json_t *status =
        json_pack("{s:{s:b, s:i}, s:n, s:[{s:s, s:s, s:s, s:{s:f}}, {s:s, s:s, s:s, s:{s:f}}, {s:s, s:s, s:s, s:{s:f}}]}",
                  "data", "database", 1, "turns", 7, "job", "services", "service", "rollout", "identity", "a", "state",
                  "alive", "counters", "slots", 4.0, "service", "rollout", "identity", "b", "state", "alive", "counters",
                  "slots", 8.0, "service", "rollout", "identity", "c", "state", "gone", "counters", "slots", 9.0);
    ck_assert_ptr_nonnull(status);
    ck_assert_int_eq(gateway_prometheus(status, &text), ERR_ok);
    ck_assert_str_eq(buf_chars(&text),
                     "# HELP pal_data_database 1 while the ledger can be reached\n# TYPE pal_data_database gauge\n"
                     "pal_data_database{identity=\"data\"} 1\n"
                     "# HELP pal_data_turns turns of the event loop that had messages: one transaction each\n"
                     "# TYPE pal_data_turns counter\npal_data_turns{identity=\"data\"} 7\n"
                     "# HELP pal_rollout_slots episodes it can play at once\n# TYPE pal_rollout_slots gauge\n"
                     "pal_rollout_slots{identity=\"a\"} 4\npal_rollout_slots{identity=\"b\"} 8\n");
    json_decref(status);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("documents");
    TCase *tcase = tcase_create("documents");
    tcase_add_test(tcase, rest_and_metrics_are_the_committed_ones);
    tcase_add_test(tcase, figures_have_one_meaning);
    tcase_add_test(tcase, openapi_has_every_route);
    tcase_add_test(tcase, a_series_has_one_head);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
