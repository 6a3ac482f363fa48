/* The rows of the registry: one per file. Others reach them through env_find. */
#ifndef PAL_ENV_BUILTIN_H
#define PAL_ENV_BUILTIN_H

#include "env/env.h"

extern const struct env_class env_adventure;
extern const struct env_class env_webform;
extern const struct env_class env_lake;

#endif
