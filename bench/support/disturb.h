/* What ./run chaos does to a stack that works: processes killed and a disk filled at moments that a seed chooses, and how
 * long it takes until the stage that was hit has committed a row again. */
#ifndef PAL_BENCH_SUPPORT_DISTURB_H
#define PAL_BENCH_SUPPORT_DISTURB_H

#include "bench/support/rig.h"

#include <stdint.h>

#define DISTURB_KILLS    1000
#define DISTURB_VICTIMS  6
#define DISTURB_DISKS    16
#define DISTURB_DISK_MIB 2048

struct disturb {
    const struct rig *rig;
    uint64_t random; /* splitmix64 */
    long job;
    bool has_disk; /* the state lies on a small disk of its own */
    size_t kills, killed[DISTURB_VICTIMS], recoveries;
    double recovery_s[DISTURB_KILLS];
    size_t disks; /* times it was full */
    double disk_recovery_s[DISTURB_DISKS];
};

const char *disturb_victim(size_t index);
double disturb_unit(struct disturb *disturb); /* a draw from 0 to 1 */
/* Kills one process and waits until its stage works again. False when the job has ended. */
bool disturb_kill(struct disturb *disturb);
/* Fills the disk, for a moment, and waits until the job goes on. False when the job has ended. */
bool disturb_disk(struct disturb *disturb);
double disturb_quantile(const double *values, size_t count, double share); /* sorts a copy; 0 for none */

#endif
