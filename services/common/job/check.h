/* Combinations that make no sense, looked for after every key was read. Internal to this folder. */
#ifndef PAL_JOB_CHECK_H
#define PAL_JOB_CHECK_H

#include "services/common/job/reader.h"

void job_check(struct job_reader *reader, const struct job_spec *spec);
/* Those of the methods (check_methods.c). */
void job_check_methods(struct job_reader *reader, const struct job_spec *spec);

#endif
