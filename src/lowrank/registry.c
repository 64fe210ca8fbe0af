/* registry.c - the list of low-rank methods. */
#include "base/registry.h"
#include "crank/linear.h"

extern const crank_map crank_map_lora, crank_map_dora;
extern const crank_map crank_map_sltrain, crank_map_sst, crank_map_relora, crank_map_gradnormlorp, crank_map_welore;
extern const crank_map crank_map_hydra, crank_map_sora, crank_map_allora, crank_map_asf_lora;
extern const crank_map crank_map_eva, crank_map_lora_ga, crank_map_lora_sb, crank_map_lora_xs, crank_map_svfit;
extern const crank_map crank_map_lamda, crank_map_lora_pro, crank_map_smora;
extern const crank_map crank_map_bone, crank_map_miss, crank_map_randlora, crank_map_nola, crank_map_dylora, crank_map_loram;

// clang-format off
static const crank_map *const built_in[] = {
    &crank_map_lora, &crank_map_dora,
    &crank_map_sltrain, &crank_map_sst, &crank_map_relora, &crank_map_gradnormlorp, &crank_map_welore,
    &crank_map_hydra, &crank_map_sora, &crank_map_allora, &crank_map_asf_lora,
    &crank_map_eva, &crank_map_lora_ga, &crank_map_lora_sb, &crank_map_lora_xs, &crank_map_svfit,
    &crank_map_lamda, &crank_map_lora_pro, &crank_map_smora,
    &crank_map_bone, &crank_map_miss, &crank_map_randlora, &crank_map_nola, &crank_map_dylora, &crank_map_loram,
    NULL
};
// clang-format on

/* Process-wide and guarded by its own lock: methods that programs add are code, which the process shares. */
static registry methods = REGISTRY("low-rank method", built_in);

const crank_map *crank_map_find(const char *name) { return registry_find(&methods, name); }
const crank_map *crank_map_at(size_t i) { return registry_at(&methods, i); }

crank_status crank_register_map(crank_context *context, const crank_map *map)
{
    if (!map->attach || !map->forward)
        return crank_fail(context, CRANK_USAGE, "the low-rank method %s lacks attach or forward", map->name ? map->name : "?");
    return registry_add(context, &methods, map);
}
