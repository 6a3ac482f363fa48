/* import_parse and import_line on arbitrary bytes: demonstrations or problems, never a crash; what they take is within its
 * bounds. */
#include "services/common/job/import.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct import_item *item)
{
    BUG_IF((item->task >= 0) == (item->body[0] != 0));
    BUG_IF(item->script[0] == 0 || strlen(item->script) > IMPORT_SCRIPT_BYTES || strstr(item->script, "\n\n"));
    BUG_IF(strlen(item->body) >= IMPORT_TASK_BYTES || item->environment < -1 || item->environment >= JOB_ENVIRONMENTS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(arena) arena = {0};
    arena_init(&arena, 8 << 20);
    struct import_item *items = NULL, item;
    struct job_problems problems;
    size_t count = 0;
    err_t err = import_parse(span_of(data, size), &arena, &items, &count, &problems);
    BUG_IF(err == ERR_ok && (problems.count != 0 || count == 0 || count > IMPORT_ITEMS));
    for (size_t i = 0; err == ERR_ok && i < count; i++) check(&items[i]);
    err = import_line(span_of(data, size), &arena, &item, &problems);
    BUG_IF((err == ERR_ok) != (problems.count == 0) && err != ERR_too_large && err != ERR_memory);
    if (err == ERR_ok) check(&item);
    return 0;
}
