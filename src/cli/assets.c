/* assets.c - finding what comes with the program. */
#include "cli/assets.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"

static char *in_folder(crank_context *context, const char *folder, const char *name)
{
    char *path = file_join(context, folder, name);
    if (path && (file_exists(path) || file_is_folder(path))) return path;
    crank_free(path);
    return NULL;
}

char *assets_find(crank_context *context, const char *name)
{
    static const char *const beside[] = {"/../assets", "/../share/crank/assets"};
    const char *given = getenv("CRANK_ASSETS");
    char        program[4096], folder[4200], *path;
    if (given && *given) {
        if ((path = in_folder(context, given, name))) return path;
        crank_fail(context, CRANK_FAILED, "CRANK_ASSETS is %s, which has no %s", given, name);
        return NULL;
    }
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    program[length > 0 ? length : 0] = 0;
    char *slash = strrchr(program, '/');
    if (slash) *slash = 0;
    for (size_t i = 0; i < sizeof beside / sizeof beside[0]; i++) {
        snprintf(folder, sizeof folder, "%s%s", program, beside[i]);
        if ((path = in_folder(context, folder, name))) return path;
    }
    crank_fail(context, CRANK_FAILED, "%s is not found beside %s (../assets, ../share/crank/assets): set CRANK_ASSETS to the folder that has it", name, program);
    return NULL;
}
