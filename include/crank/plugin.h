/* plugin.h - methods built outside the tree and loaded at run time.
 *
 * A plugin is a shared object that defines
 *
 *     crank_status crank_plugin(crank_context *context);
 *
 * and calls crank_register_map, crank_register_optimizer or crank_register_objective in it. Only the user's command line names
 * plugins: no recipe, model, adapter or data file can cause code to be loaded. */
#ifndef CRANK_PLUGIN_H
#define CRANK_PLUGIN_H

#include "crank/linear.h"
#include "crank/loss.h"
#include "crank/optim.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef crank_status crank_plugin_entry(crank_context *context);

/* Loads a shared object and calls its crank_plugin. It stays loaded until the process ends. */
CRANK_API crank_status crank_plugin_load(crank_context *context, const char *path);
/* Name and FNV-1a hash of the bytes of each loaded plugin: what a checkpoint records. False past the end. */
CRANK_API bool crank_plugin_at(size_t i, const char **name, uint64_t *hash);

#ifdef __cplusplus
}
#endif
#endif
