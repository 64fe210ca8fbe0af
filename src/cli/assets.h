/* assets.h - files that come with the program. */
#ifndef CRANK_CLI_ASSETS_H
#define CRANK_CLI_ASSETS_H

#include "crank/base.h"

/* The path of `name` among the assets: CRANK_ASSETS, or beside the program (../assets of a build folder, ../share/crank/assets of an
 * installation). NULL with a message that names the places looked at. crank_free. */
char *assets_find(crank_context *context, const char *name);
#endif
