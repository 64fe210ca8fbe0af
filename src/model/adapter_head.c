/* adapter_head.c - what an adapter folder tells of the classification head that was trained with it, before a model is loaded.
 *
 * The head's outputs are the rows of its weight: `classifier.weight` (BERT, DistilBERT), `classifier.out_proj.weight` (RoBERTa) or
 * `score.weight` (decoders), in PEFT's names or crank's own. How sequences were pooled stands in the metadata `crank_pooling`. */
#include <string.h>

#include "base/file.h"
#include "model/adapter.h"
#include "model/model.h"

static bool is_head(const char *name)
{
    static const char *const heads[] = {"classifier", "classifier.out_proj", "score"};
    static const char *const ends[] = {".weight", ".modules_to_save.default.weight"};
    size_t                   length = strlen(name);
    for (size_t h = 0; h < sizeof heads / sizeof *heads; h++)
        for (size_t e = 0; e < sizeof ends / sizeof *ends; e++) {
            size_t head = strlen(heads[h]), end = strlen(ends[e]);
            if (length < head + end || strcmp(name + length - end, ends[e]) || strncmp(name + length - end - head, heads[h], head)) continue;
            if (length == head + end || name[length - end - head - 1] == '.') return true;
        }
    return false;
}

crank_status crank_adapter_head(crank_context *context, const char *folder, int64_t *labels, char pooling[16])
{
    *labels = 0;
    *pooling = 0;
    crank_status status = file_folder_recover(context, folder);
    if (status != CRANK_OK) return status;
    char              *path = file_join(context, folder, "adapter_model.safetensors");
    crank_safetensors *file = NULL;
    if (!path) return CRANK_FAILED;
    if (file_exists(path) && !(file = crank_safetensors_open(context, path))) status = crank_last_status(context);
    crank_free(path);
    if (!file) return status; /* no such file: crank_adapter_load tells what is there instead */
    for (size_t i = 0; i < crank_safetensors_count(file); i++) {
        crank_view view = crank_safetensors_view(file, i);
        if (is_head(crank_safetensors_name(file, i)) && view.rank == 2 && view.dims[0] <= SIZE_LABELS) *labels = view.dims[0];
    }
    const char *stated = crank_safetensors_metadata(file, "crank_pooling");
    if (stated && strlen(stated) < 16) strcpy(pooling, stated);
    crank_safetensors_close(file);
    return CRANK_OK;
}
