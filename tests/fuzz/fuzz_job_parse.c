/* job_parse on arbitrary bytes: a job or problems, never a crash; what it takes, job_dump writes and it takes again. */
#include "services/common/job/job.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(arena) arena = {0};
    arena_init(&arena, 8 << 20);
    struct job_spec spec;
    struct job_problems problems;
    err_t err = job_parse(span_of(data, size), &arena, &spec, &problems);
    BUG_IF((err == ERR_ok) != (problems.count == 0));
    if (err != ERR_ok) return 0;
    AUTO(buf) out = {0};
    BUG_IF(job_dump(&spec, false, &out) != ERR_ok);
    BUG_IF(job_parse(buf_span(&out), &arena, &spec, &problems) != ERR_ok);
    return 0;
}
