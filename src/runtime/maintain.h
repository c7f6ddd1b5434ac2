/* SPDX-License-Identifier: MIT */
/*
 * maintain.h - between maintain.c and the handlers of fork in runtime.c.
 */
#ifndef WEIRI_RUNTIME_MAINTAIN_H
#define WEIRI_RUNTIME_MAINTAIN_H

#include "base/compiler.h"

void weiri_maintain_fork_lock(void);
void weiri_maintain_fork_unlock(void);
/* The helper thread, and whoever else was at a pass, do not exist here. */
void weiri_maintain_fork_child(void);

#endif /* WEIRI_RUNTIME_MAINTAIN_H */
