/* safetensors.c - reads safetensors files: mapped, and validated in full before the first tensor is given.
 *
 * The file may be hostile. Nothing of the header is believed before it is checked: lengths against the file, products of
 * dimensions against overflow and against the byte ranges, ranges against each other. */
#include "data/safetensors.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"

typedef struct {
    char      *name;
    crank_view view;
    uint64_t   begin, end; /* in the data */
    void      *aligned;    /* a copy, where the file holds the tensor at an address that its type forbids */
} entry;

struct crank_safetensors {
    char    *path;
    file_map map;
    json_t  *metadata; /* object of strings, or NULL */
    size_t   count;
    entry   *entries; /* in the order of the data */
    size_t  *by_name; /* indices sorted by name */
};

static const struct {
    const char *name;
    size_t      bits;
    crank_dtype dtype;
} types[] = { /* in the format's order of types, lowest first */
    {"BOOL", 8, CRANK_U8},        {"F4", 4, CRANK_DTYPES},       {"F6_E2M3", 6, CRANK_DTYPES},     {"F6_E3M2", 6, CRANK_DTYPES},
    {"U8", 8, CRANK_U8},          {"I8", 8, CRANK_DTYPES},       {"F8_E5M2", 8, CRANK_DTYPES},     {"F8_E4M3", 8, CRANK_F8E4M3},
    {"F8_E8M0", 8, CRANK_DTYPES}, {"F8_E4M3FNUZ", 8, CRANK_DTYPES}, {"F8_E5M2FNUZ", 8, CRANK_DTYPES}, {"I16", 16, CRANK_DTYPES},
    {"U16", 16, CRANK_DTYPES},    {"F16", 16, CRANK_F16},        {"BF16", 16, CRANK_BF16},         {"I32", 32, CRANK_I32},
    {"U32", 32, CRANK_DTYPES},    {"F32", 32, CRANK_F32},        {"C64", 64, CRANK_DTYPES},        {"F64", 64, CRANK_F64},
    {"I64", 64, CRANK_I64},       {"U64", 64, CRANK_DTYPES},
};
enum { TYPES = sizeof types / sizeof *types };

size_t safetensors_type_bits(const char *name, crank_dtype *dtype)
{
    for (int i = 0; i < TYPES; i++)
        if (strcmp(name, types[i].name) == 0) {
            *dtype = types[i].dtype;
            return types[i].bits;
        }
    return 0;
}

const char *safetensors_type_name(crank_dtype dtype, int *order)
{
    for (int i = 1; i < TYPES && dtype != CRANK_DTYPES; i++) /* 0 is BOOL: u8 is written as U8 */
        if (types[i].dtype == dtype) {
            *order = i;
            return types[i].name;
        }
    return NULL;
}

#define BAD(...) crank_fail(context, CRANK_BAD_DATA, __VA_ARGS__)

/* A whole number of the header, 0 or more */
static bool is_size(const json_t *value) { return json_is_integer(value) && json_integer_value(value) >= 0; }

/* Shape and range of one tensor -> entry. `size` is the length of the data. */
static crank_status read_entry(crank_context *context, const char *path, const char *name, const json_t *about, uint64_t size,
                               entry *out)
{
    const json_t *shape = json_object_get(about, "shape"), *offsets = json_object_get(about, "data_offsets");
    const char   *type = json_string_value(json_object_get(about, "dtype"));
    int64_t       dims[CRANK_MAX_RANK], count = 1, bit_count;
    crank_dtype   dtype;
    if (!type) return BAD("%s: tensor `%.200s`: `dtype` is missing or no string", path, name);
    size_t bits = safetensors_type_bits(type, &dtype);
    if (!bits) return BAD("%s: tensor `%.200s`: the format has no type `%.100s`", path, name, type);
    if (!json_is_array(shape)) return BAD("%s: tensor `%.200s`: `shape` is missing or no array", path, name);
    if (json_array_size(shape) > CRANK_MAX_RANK)
        return BAD("%s: tensor `%.200s`: %zu dimensions; at most %d are read", path, name, json_array_size(shape),
                   CRANK_MAX_RANK);
    int rank = (int)json_array_size(shape);
    for (int i = 0; i < rank; i++) {
        const json_t *dim = json_array_get(shape, (size_t)i);
        if (!is_size(dim)) return BAD("%s: tensor `%.200s`: dimension %d is no whole number of 0 or more", path, name, i);
        dims[i] = json_integer_value(dim);
        if (__builtin_mul_overflow(count, dims[i], &count))
            return BAD("%s: tensor `%.200s`: its shape counts more than 2^63 elements", path, name);
    }
    if (json_array_size(offsets) != 2 || !is_size(json_array_get(offsets, 0)) || !is_size(json_array_get(offsets, 1)))
        return BAD("%s: tensor `%.200s`: `data_offsets` must be two whole numbers of 0 or more", path, name);
    out->begin = (uint64_t)json_integer_value(json_array_get(offsets, 0));
    out->end = (uint64_t)json_integer_value(json_array_get(offsets, 1));
    if (out->begin > out->end || out->end > size)
        return BAD("%s: tensor `%.200s`: bytes %llu to %llu lie outside of the %llu bytes of data", path, name,
                   (unsigned long long)out->begin, (unsigned long long)out->end, (unsigned long long)size);
    if (__builtin_mul_overflow(count, (int64_t)bits, &bit_count) || bit_count % 8 ||
        (uint64_t)bit_count / 8 != out->end - out->begin)
        return BAD("%s: tensor `%.200s`: %lld elements of %s do not fill its %llu bytes", path, name, (long long)count, type,
                   (unsigned long long)(out->end - out->begin));
    out->view = crank_view_make(NULL, dtype, rank, dims);
    out->name = crank_strdup(context, name);
    return out->name ? CRANK_OK : CRANK_FAILED;
}

static int by_place(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end) return x->end < y->end ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b, void *entries)
{
    const entry *all = entries;
    return strcmp(all[*(const size_t *)a].name, all[*(const size_t *)b].name);
}

/* Tensors must follow each other and end with the data. */
static crank_status check_cover(crank_context *context, const crank_safetensors *file, uint64_t size)
{
    uint64_t at = 0;
    for (size_t i = 0; i < file->count; i++) {
        const entry *each = &file->entries[i];
        if (each->begin != at)
            return BAD("%s: tensor `%.200s`: begins at data byte %llu, %s (%llu)", file->path, each->name,
                       (unsigned long long)each->begin,
                       each->begin < at ? "inside of the tensor before it" : "with a hole behind the tensor before it",
                       (unsigned long long)at);
        at = each->end;
    }
    if (at != size)
        return BAD("%s: the tensors end at data byte %llu, the data at %llu", file->path, (unsigned long long)at,
                   (unsigned long long)size);
    return CRANK_OK;
}

static crank_status read_metadata(crank_context *context, crank_safetensors *file, json_t *metadata)
{
    const char *key;
    json_t     *value;
    if (!json_is_object(metadata)) return BAD("%s: `__metadata__` is no object", file->path);
    json_object_foreach(metadata, key, value)
        if (!json_is_string(value)) return BAD("%s: `__metadata__`: `%.200s` is no string", file->path, key);
    file->metadata = json_incref(metadata);
    return CRANK_OK;
}

/* header (JSON object) -> entries sorted by place, and their order by name */
static crank_status read_header(crank_context *context, crank_safetensors *file, json_t *header, uint64_t size)
{
    const char  *key;
    json_t      *value;
    crank_status status = CRANK_OK;
    file->entries = crank_alloc(context, json_object_size(header), sizeof *file->entries, "the list of tensors");
    file->by_name = crank_alloc(context, json_object_size(header), sizeof *file->by_name, "the list of tensors");
    if (!file->entries || !file->by_name) return CRANK_FAILED;
    json_object_foreach(header, key, value) {
        if (strcmp(key, "__metadata__") == 0) status = read_metadata(context, file, value);
        else {
            status = read_entry(context, file->path, key, value, size, &file->entries[file->count]);
            file->count += status == CRANK_OK;
        }
        if (status != CRANK_OK) return status;
    }
    if (file->count) qsort(file->entries, file->count, sizeof *file->entries, by_place);
    for (size_t i = 0; i < file->count; i++) file->by_name[i] = i;
    if (file->count) qsort_r(file->by_name, file->count, sizeof *file->by_name, by_name, file->entries);
    return check_cover(context, file, size);
}

/* Points each view at its bytes. Early writers did not pad the header: tensors at odd addresses are copied. */
static crank_status place_views(crank_context *context, crank_safetensors *file, const uint8_t *data)
{
    size_t copied = 0, bytes = 0;
    for (size_t i = 0; i < file->count; i++) {
        entry  *each = &file->entries[i];
        size_t  alignment = crank_dtype_bits(each->view.dtype) / 8, length = (size_t)(each->end - each->begin);
        uint8_t *place = (uint8_t *)(uintptr_t)(data + each->begin);
        each->view.data = place;
        if (alignment < 2 || (uintptr_t)place % alignment == 0 || length == 0) continue;
        each->aligned = crank_alloc(context, length, 1, each->name);
        if (!each->aligned) return CRANK_FAILED;
        memcpy(each->aligned, place, length);
        each->view.data = each->aligned;
        copied++;
        bytes += length;
    }
    if (copied)
        crank_log(context, CRANK_INFO, "%s: %zu tensors (%zu bytes) stand at unaligned addresses and were copied", file->path,
                  copied, bytes);
    return CRANK_OK;
}

static crank_status validate(crank_context *context, crank_safetensors *file)
{
    const char *path = file->path;
    uint64_t    length = 0;
    if (file->map.length < 8)
        return BAD("%s: %zu bytes are too short for a safetensors file (8 bytes of header length)", path, file->map.length);
    for (int i = 7; i >= 0; i--) length = length << 8 | file->map.data[i];
    if (length > SAFETENSORS_LARGEST_HEADER)
        return BAD("%s: byte 0: a header of %llu bytes; the format allows %llu", path, (unsigned long long)length,
                   (unsigned long long)SAFETENSORS_LARGEST_HEADER);
    if (length > file->map.length - 8)
        return BAD("%s: byte 0: a header of %llu bytes in a file of %zu bytes: the file is cut or no safetensors file", path,
                   (unsigned long long)length, file->map.length);
    if (length == 0 || file->map.data[8] != '{') return BAD("%s: byte 8: the header does not begin with {", path);
    json_t *header = json_parse(context, (const char *)file->map.data + 8, (size_t)length, path);
    if (!header) return crank_last_status(context);
    const uint8_t *data = file->map.data + 8 + length;
    crank_status   status = read_header(context, file, header, file->map.length - 8 - length);
    json_decref(header);
    return status == CRANK_OK ? place_views(context, file, data) : status;
}

crank_safetensors *crank_safetensors_open(crank_context *context, const char *path)
{
    crank_safetensors *file = crank_alloc(context, 1, sizeof *file, "a safetensors file");
    if (!file) return NULL;
    file->path = crank_strdup(context, path);
    if (file->path && file_map_open(context, path, &file->map) == CRANK_OK && validate(context, file) == CRANK_OK) return file;
    crank_safetensors_close(file);
    return NULL;
}

void crank_safetensors_close(crank_safetensors *file)
{
    if (!file) return;
    for (size_t i = 0; i < file->count; i++) {
        crank_free(file->entries[i].name);
        crank_free(file->entries[i].aligned);
    }
    crank_free(file->entries);
    crank_free(file->by_name);
    json_decref(file->metadata);
    file_map_close(&file->map);
    crank_free(file->path);
    crank_free(file);
}

size_t      crank_safetensors_count(const crank_safetensors *file) { return file->count; }
const char *crank_safetensors_name(const crank_safetensors *file, size_t i) { return file->entries[i].name; }
crank_view  crank_safetensors_view(const crank_safetensors *file, size_t i) { return file->entries[i].view; }

bool crank_safetensors_find(const crank_safetensors *file, const char *name, crank_view *view)
{
    for (size_t low = 0, high = file->count; low < high;) {
        size_t middle = low + (high - low) / 2;
        entry *each = &file->entries[file->by_name[middle]];
        int    order = strcmp(name, each->name);
        if (order == 0) {
            *view = each->view;
            return true;
        }
        if (order < 0) high = middle;
        else low = middle + 1;
    }
    return false;
}

const char *crank_safetensors_metadata(const crank_safetensors *file, const char *key)
{
    return json_string_value(json_object_get(file->metadata, key));
}

void crank_safetensors_release(const crank_safetensors *file, const crank_view *view)
{
    uintptr_t start = (uintptr_t)file->map.data, stop = start + file->map.length, page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t from = (uintptr_t)view->data, to = from + crank_view_bytes(view);
    if (from < start || to > stop) return; /* a copy, or another file's */
    from = (from + page - 1) / page * page; /* pages shared with a neighbour stay */
    to = to == stop ? (to + page - 1) / page * page : to / page * page;
    if (from < to) madvise((void *)from, to - from, MADV_DONTNEED);
}
