/* Safetensors: equal to the safetensors library both ways, hostile headers refused with file and place, writes atomic. */
#include "testing.h"

#include "base/file.h"
#include "crank/random.h"
#include "crank/tensor.h"

static crank_context *context;
static char           folder[64], path[256];

static int setup(void **state)
{
    (void)state;
    context = crank_context_new();
    snprintf(folder, sizeof folder, "/tmp/crank_safetensors_XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    assert_ok(context, file_folder_remove(context, folder));
    crank_context_free(context);
    return 0;
}

static const char *inside(const char *name)
{
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

/* Element i of a golden tensor is i - 3 (u8: i). */
static void assert_ramp(const crank_view *view, crank_dtype dtype, int64_t count)
{
    double values[16];
    assert_int_equal(view->dtype, dtype);
    assert_int_equal(crank_view_count(view), count);
    for (int64_t i = 0; i < count; i++) {
        if (dtype == CRANK_I32) values[i] = ((const int32_t *)view->data)[i];
        else if (dtype == CRANK_I64) values[i] = (double)((const int64_t *)view->data)[i];
        else if (dtype == CRANK_U8) values[i] = ((const uint8_t *)view->data)[i] - 3;
        else crank_convert(&values[i], CRANK_F64, (const char *)view->data + (size_t)i * crank_dtype_bits(dtype) / 8, dtype, 1);
        assert_true(values[i] == (double)(i - 3));
    }
}

static void a_file_of_the_library_reads_equal_in_every_type(void **state)
{
    (void)state;
    crank_safetensors *file = crank_safetensors_open(context, golden("safetensors/every_type.safetensors"));
    if (!file) fail_msg("%s", crank_message(context));
    static const struct { const char *name; crank_dtype dtype; int64_t count; } expected[] = {
        {"i64", CRANK_I64, 6},   {"f64", CRANK_F64, 6}, {"f32", CRANK_F32, 6}, {"i32", CRANK_I32, 6},
        {"bf16", CRANK_BF16, 6}, {"f16", CRANK_F16, 7}, {"u8", CRANK_U8, 5}};
    crank_view view;
    assert_int_equal(crank_safetensors_count(file), 8);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        assert_true(crank_safetensors_find(file, expected[i].name, &view));
        assert_ramp(&view, expected[i].dtype, expected[i].count);
    }
    assert_true(crank_safetensors_find(file, "f8", &view));
    assert_int_equal(view.dtype, CRANK_F8E4M3);
    assert_int_equal(((const uint8_t *)view.data)[0], 0xc4); /* -3 = -1.5 x 2 */
    assert_true(crank_safetensors_find(file, "f32", &view));
    assert_true(view.rank == 2 && view.dims[0] == 2 && view.dims[1] == 3);
    assert_false(crank_safetensors_find(file, "f31", &view));
    assert_null(crank_safetensors_metadata(file, "format"));
    assert_string_equal(crank_safetensors_name(file, 0), "i64");
    crank_safetensors_close(file);
}

static void names_ranks_metadata_and_foreign_types_are_kept(void **state)
{
    (void)state;
    crank_safetensors *file = crank_safetensors_open(context, golden("safetensors/one_key.safetensors"));
    if (!file) fail_msg("%s", crank_message(context));
    crank_view view;
    assert_string_equal(crank_safetensors_metadata(file, "format"), "pt");
    assert_null(crank_safetensors_metadata(file, "other"));
    assert_true(crank_safetensors_find(file, "gr\xc3\xb6\xc3\x9f" "e \xf0\x9f\x98\x80", &view));
    assert_ramp(&view, CRANK_F32, 2);
    assert_true(crank_safetensors_find(file, "quote\"back\\slash", &view));
    assert_true(crank_safetensors_find(file, "scalar", &view));
    assert_true(view.rank == 0 && *(const float *)view.data == 7);
    assert_true(crank_safetensors_find(file, "rank5", &view));
    assert_true(view.rank == 5 && view.dims[2] == 3);
    assert_true(crank_safetensors_find(file, "empty", &view));
    assert_int_equal(crank_view_count(&view), 0);
    assert_true(crank_safetensors_find(file, "mask", &view));
    assert_true(view.dtype == CRANK_U8 && ((const uint8_t *)view.data)[2] == 1);
    assert_true(crank_safetensors_find(file, "small", &view));
    assert_int_equal(view.dtype, CRANK_DTYPES); /* I8 */
    crank_safetensors_close(file);
}

static void shards_read_as_one_set_of_names(void **state)
{
    (void)state;
    crank_weights *weights = crank_weights_open(context, golden("safetensors/sharded"));
    if (!weights) fail_msg("%s", crank_message(context));
    static const char *const names[] = {"head", "layers.0.b", "layers.0.w", "layers.1.w"};
    crank_view               view;
    assert_int_equal(crank_weights_count(weights), 4);
    for (size_t i = 0; i < 4; i++) {
        assert_string_equal(crank_weights_name(weights, i), names[i]);
        assert_true(crank_weights_find(weights, names[i], &view));
        assert_ramp(&view, i == 3 ? CRANK_BF16 : CRANK_F32, i == 0 ? 3 : i == 1 ? 2 : 4);
        crank_weights_release(weights, names[i]);
        assert_ramp(&view, i == 3 ? CRANK_BF16 : CRANK_F32, i == 0 ? 3 : i == 1 ? 2 : 4); /* read again from the file */
    }
    assert_false(crank_weights_find(weights, "tail", &view));
    assert_string_equal(crank_weights_metadata(weights, "format"), "pt");
    crank_weights_close(weights);
}

/* Tensors of a file, written again, make the same bytes as the library's. */
static void assert_rewritten_equal(const char *source, const char *const *metadata, size_t metadata_count)
{
    crank_safetensors *file = crank_safetensors_open(context, source);
    if (!file) fail_msg("%s", crank_message(context));
    size_t           count = crank_safetensors_count(file), a_length, b_length;
    crank_named_view tensors[16];
    for (size_t i = 0; i < count; i++) /* backwards: the writer sorts */
        tensors[count - 1 - i] = (crank_named_view){crank_safetensors_name(file, i), crank_safetensors_view(file, i)};
    assert_ok(context, crank_safetensors_write(context, inside("copy"), tensors, count, metadata, metadata_count));
    char *a = file_read(context, source, &a_length), *b = file_read(context, inside("copy"), &b_length);
    assert_int_equal(a_length, b_length);
    assert_memory_equal(a, b, a_length);
    crank_free(a);
    crank_free(b);
    crank_safetensors_close(file);
}

static void written_files_equal_the_librarys_byte_for_byte(void **state)
{
    (void)state;
    static const char *const metadata[] = {"format", "pt"};
    char                     source[4096];
    snprintf(source, sizeof source, "%s", golden("safetensors/every_type.safetensors"));
    assert_rewritten_equal(source, NULL, 0);
    snprintf(source, sizeof source, "%s", golden("safetensors/sharded/model-00001-of-00002.safetensors"));
    assert_rewritten_equal(source, metadata, 1);
}

static void what_the_format_cannot_hold_is_refused_before_writing(void **state)
{
    (void)state;
    float            values[4] = {0};
    int64_t          dims[2] = {2, 2};
    crank_view       view = crank_view_make(values, CRANK_F32, 2, dims), other = view;
    crank_named_view twice[] = {{"a", view}, {"a", view}}, reserved = {"__metadata__", view}, bytes = {"\xff", view};
    assert_int_equal(crank_safetensors_write(context, inside("x"), twice, 2, NULL, 0), CRANK_USAGE);
    assert_non_null(strstr(crank_message(context), "two tensors are named `a`"));
    assert_int_equal(crank_safetensors_write(context, inside("x"), &reserved, 1, NULL, 0), CRANK_USAGE);
    assert_int_equal(crank_safetensors_write(context, inside("x"), &bytes, 1, NULL, 0), CRANK_USAGE);
    other.dtype = CRANK_NF4;
    crank_named_view packed = {"packed", other};
    assert_int_equal(crank_safetensors_write(context, inside("x"), &packed, 1, NULL, 0), CRANK_USAGE);
    other.dtype = CRANK_DTYPES;
    packed.view = other;
    assert_int_equal(crank_safetensors_write(context, inside("x"), &packed, 1, NULL, 0), CRANK_USAGE);
    other = view;
    other.strides[0] = 1;
    other.strides[1] = 2;
    crank_named_view transposed = {"t", other};
    assert_int_equal(crank_safetensors_write(context, inside("x"), &transposed, 1, NULL, 0), CRANK_USAGE);
    assert_int_equal(crank_weights_write(context, inside("m"), twice, 2, 16), CRANK_USAGE);
    assert_false(file_exists(inside("x")));
}

static void a_file_without_tensors_is_valid(void **state)
{
    (void)state;
    assert_ok(context, crank_safetensors_write(context, inside("none"), NULL, 0, NULL, 0));
    crank_safetensors *file = crank_safetensors_open(context, inside("none"));
    assert_non_null(file);
    assert_int_equal(crank_safetensors_count(file), 0);
    crank_safetensors_close(file);
}

/* header text and `data_length` zero bytes behind it; header_length -1: its own */
static void put_file(const char *name, const char *header, size_t length, int64_t header_length, size_t data_length)
{
    FILE    *file = fopen(inside(name), "wb");
    uint64_t stated = header_length < 0 ? length : (uint64_t)header_length;
    for (int i = 0; i < 8; i++) fputc((int)(stated >> 8 * i & 255), file);
    fwrite(header, 1, length, file);
    for (size_t i = 0; i < data_length; i++) fputc(0, file);
    fclose(file);
}

static void unpadded_headers_give_aligned_views(void **state)
{
    (void)state;
    const char header[] = "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                          "\"b\":{\"dtype\":\"F64\",\"shape\":[2],\"data_offsets\":[1,17]}} ";
    put_file("odd", header, sizeof header - 1, -1, 17);
    crank_safetensors *file = crank_safetensors_open(context, inside("odd"));
    if (!file) fail_msg("%s", crank_message(context));
    crank_view view;
    assert_true(crank_safetensors_find(file, "b", &view));
    assert_int_equal((uintptr_t)view.data % 8, 0);
    assert_true(((const double *)view.data)[1] == 0);
    crank_safetensors_release(file, &view); /* a copy stays */
    crank_safetensors_close(file);
}

typedef struct {
    const char *header;
    size_t      data;     /* bytes behind the header */
    const char *expected; /* in the message */
} hostile;

#define T(dtype, shape, begin, end) "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}"
static const hostile cases[] = {
    {"", 0, "byte 8"},
    {" {}", 0, "byte 8"},
    {"[]", 0, "byte 8"},
    {"{", 0, "not valid JSON"},
    {"{}x", 0, "not valid JSON"},
    {"{\"a\"}", 0, "not valid JSON"},
    {"{\"\xff\":" T("F32", "[1]", "0", "4") "}", 4, "not valid JSON"},
    {"{\"a\xc0\x80\":" T("F32", "[1]", "0", "4") "}", 4, "not valid JSON"},
    {"{\"a\\u0000b\":" T("F32", "[1]", "0", "4") "}", 4, "not valid JSON"},
    {"{\"a\":" T("F32", "[1]", "0", "4") ",\"a\":" T("F32", "[1]", "4", "8") "}", 8, "not valid JSON"},
    {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "not valid JSON"},
    {"{\"a\":1}", 0, "`a`: `dtype`"},
    {"{\"a\":null}", 0, "`a`: `dtype`"},
    {"{\"a\":[]}", 0, "`a`: `dtype`"},
    {"{\"a\":{}}", 0, "`a`: `dtype`"},
    {"{\"a\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "`a`: `dtype`"},
    {"{\"a\":" T("f32", "[1]", "0", "4") "}", 4, "no type `f32`"},
    {"{\"a\":" T("F128", "[1]", "0", "16") "}", 16, "no type `F128`"},
    {"{\"a\":" T("", "[1]", "0", "4") "}", 4, "no type ``"},
    {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "`a`: `shape`"},
    {"{\"a\":" T("F32", "4", "0", "4") "}", 4, "`a`: `shape`"},
    {"{\"a\":" T("F32", "{}", "0", "4") "}", 4, "`a`: `shape`"},
    {"{\"a\":" T("F32", "[-1]", "0", "4") "}", 4, "dimension 0"},
    {"{\"a\":" T("F32", "[1,1.0]", "0", "4") "}", 4, "dimension 1"},
    {"{\"a\":" T("F32", "[\"1\"]", "0", "4") "}", 4, "dimension 0"},
    {"{\"a\":" T("F32", "[null]", "0", "4") "}", 4, "dimension 0"},
    {"{\"a\":" T("F32", "[[1]]", "0", "4") "}", 4, "dimension 0"},
    {"{\"a\":" T("F32", "[18446744073709551616]", "0", "4") "}", 4, "dimension 0"},
    {"{\"a\":" T("F32", "[1,1,1,1,1,1]", "0", "4") "}", 4, "6 dimensions"},
    {"{\"a\":" T("F32", "[4611686018427387904,4]", "0", "0") "}", 0, "2^63"},
    {"{\"a\":" T("F32", "[4294967296,4294967296]", "0", "0") "}", 0, "2^63"},
    {"{\"a\":" T("F32", "[4294967296,4294967296,0]", "0", "0") "}", 0, "2^63"},
    {"{\"a\":" T("F64", "[4611686018427387904]", "0", "0") "}", 0, "do not fill"},
    {"{\"a\":" T("F32", "[4611686018427387904]", "0", "0") "}", 0, "do not fill"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "`data_offsets`"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, "`data_offsets`"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 4, "`data_offsets`"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":{\"0\":0,\"1\":4}}}", 4, "`data_offsets`"},
    {"{\"a\":" T("F32", "[1]", "-4", "0") "}", 4, "`data_offsets`"},
    {"{\"a\":" T("F32", "[1]", "0", "4.0") "}", 4, "`data_offsets`"},
    {"{\"a\":" T("F32", "[1]", "0", "\"4\"") "}", 4, "`data_offsets`"},
    {"{\"a\":" T("F32", "[1]", "0", "18446744073709551620") "}", 4, "`data_offsets`"},
    {"{\"a\":" T("F32", "[1]", "4", "0") "}", 4, "outside"},
    {"{\"a\":" T("F32", "[2]", "0", "8") "}", 4, "outside"},
    {"{\"a\":" T("F32", "[1]", "9223372036854775803", "9223372036854775807") "}", 4, "outside"},
    {"{\"a\":" T("F32", "[2]", "0", "4") "}", 4, "do not fill"},
    {"{\"a\":" T("F32", "[0]", "0", "4") "}", 4, "do not fill"},
    {"{\"a\":" T("F32", "[]", "0", "8") "}", 8, "do not fill"},
    {"{\"a\":" T("BF16", "[1]", "0", "4") "}", 4, "do not fill"},
    {"{\"a\":" T("F4", "[3]", "0", "1") "}", 1, "do not fill"},
    {"{\"a\":" T("F6_E2M3", "[1]", "0", "1") "}", 1, "do not fill"},
    {"{\"a\":" T("F32", "[1]", "0", "4") ",\"b\":" T("F32", "[1]", "2", "6") "}", 6, "inside of the tensor before it"},
    {"{\"a\":" T("F32", "[1]", "0", "4") ",\"b\":" T("F32", "[1]", "0", "4") "}", 4, "inside of the tensor before it"},
    {"{\"a\":" T("F32", "[2]", "0", "8") ",\"b\":" T("F32", "[1]", "0", "4") "}", 8, "inside of the tensor before it"},
    {"{\"a\":" T("F32", "[2]", "0", "8") ",\"b\":" T("F32", "[0]", "4", "4") "}", 8, "inside of the tensor before it"},
    {"{\"a\":" T("F32", "[1]", "0", "4") ",\"b\":" T("F32", "[1]", "8", "12") "}", 12, "hole"},
    {"{\"a\":" T("F32", "[1]", "4", "8") "}", 8, "hole"},
    {"{\"a\":" T("F32", "[1]", "0", "4") "}", 5, "the data at 5"},
    {"{}", 1, "the data at 1"},
    {"{\"a\":" T("F32", "[0]", "0", "0") "}", 4, "the data at 4"},
    {"{\"__metadata__\":[]}", 0, "__metadata__"},
    {"{\"__metadata__\":null}", 0, "__metadata__"},
    {"{\"__metadata__\":{\"a\":1}}", 0, "`a` is no string"},
    {"{\"__metadata__\":{\"a\":{}}}", 0, "`a` is no string"},
    {"{\"__metadata__\":" T("F32", "[1]", "0", "4") "}", 4, "no string"},
};

static void assert_refused(const char *name, const char *expected)
{
    crank_safetensors *file = crank_safetensors_open(context, inside(name));
    if (file) fail_msg("a hostile file was taken: %s", expected);
    assert_int_equal(crank_last_status(context), CRANK_BAD_DATA);
    assert_int_equal(strncmp(crank_message(context), path, strlen(path)), 0);
    if (!strstr(crank_message(context), expected)) fail_msg("`%s` does not say `%s`", crank_message(context), expected);
}

static void hostile_headers_are_refused_with_file_and_place(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put_file("hostile", cases[i].header, strlen(cases[i].header), -1, cases[i].data);
        assert_refused("hostile", cases[i].expected);
    }
}

static void lying_header_lengths_are_refused(void **state)
{
    (void)state;
    static const int64_t lengths[] = {1, 3, 100, 100000000, 100000001, 1LL << 40, INT64_MAX};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        put_file("lie", "{}", 2, lengths[i], 0);
        assert_refused("lie", lengths[i] == 1 ? "not valid JSON" : "byte 0");
    }
    for (size_t length = 0; length < 8; length++) {
        FILE *file = fopen(inside("short"), "wb");
        for (size_t i = 0; i < length; i++) fputc(255, file);
        fclose(file);
        assert_refused("short", "too short");
    }
    FILE *file = fopen(inside("ones"), "wb");
    for (size_t i = 0; i < 64; i++) fputc(255, file);
    fclose(file);
    assert_refused("ones", "the format allows");
}

static void nested_bombs_are_refused(void **state)
{
    (void)state;
    enum { DEPTH = 1000000 };
    char *bomb = malloc(DEPTH + 16);
    for (int kind = 0; kind < 2; kind++) {
        size_t length = (size_t)sprintf(bomb, "{\"a\":");
        if (kind == 0) memset(bomb + length, '[', DEPTH);
        else
            for (size_t i = 0; i < DEPTH; i += 5) memcpy(bomb + length + i, "{\"a\":", 5);
        put_file("bomb", bomb, length + DEPTH, -1, 0);
        assert_refused("bomb", "not valid JSON");
    }
    free(bomb);
}

static void every_cut_and_every_changed_byte_is_refused_or_read_whole(void **state)
{
    (void)state;
    size_t length;
    char  *bytes = file_read(context, golden("safetensors/every_type.safetensors"), &length);
    for (size_t cut = 0; cut < length; cut++) {
        FILE *file = fopen(inside("cut"), "wb");
        fwrite(bytes, 1, cut, file);
        fclose(file);
        assert_null(crank_safetensors_open(context, inside("cut")));
        assert_int_equal(crank_last_status(context), CRANK_BAD_DATA);
    }
    crank_stream stream = crank_stream_make(1, CRANK_RANDOM_TEST, 0);
    for (uint64_t i = 0; i < 3000; i++) {
        size_t at = (size_t)crank_draw_below(stream, 2 * i, length);
        char   old = bytes[at];
        bytes[at] = (char)crank_draw_below(stream, 2 * i + 1, 256);
        FILE *file = fopen(inside("changed"), "wb");
        fwrite(bytes, 1, length, file);
        fclose(file);
        bytes[at] = old;
        crank_safetensors *opened = crank_safetensors_open(context, inside("changed"));
        unsigned           sum = 0;
        for (size_t t = 0; opened && t < crank_safetensors_count(opened); t++) {
            crank_view view = crank_safetensors_view(opened, t);
            for (size_t b = 0; b < crank_view_bytes(&view); b++) sum += ((const uint8_t *)view.data)[b];
        }
        assert_true(sum < 1u << 20);
        crank_safetensors_close(opened);
    }
    crank_free(bytes);
}

static void indices_stay_in_their_folder_and_tell_what_is_missing(void **state)
{
    (void)state;
    static const struct { const char *index, *expected; } bad[] = {
        {"{}", "`weight_map`"},
        {"[]", "`weight_map`"},
        {"{\"weight_map\":[]}", "`weight_map`"},
        {"{\"weight_map\":{\"a\":1}}", "plain name"},
        {"{\"weight_map\":{\"a\":\"\"}}", "plain name"},
        {"{\"weight_map\":{\"a\":\"..\"}}", "plain name"},
        {"{\"weight_map\":{\"a\":\"../x.safetensors\"}}", "plain name"},
        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", "plain name"},
        {"{\"weight_map\":{\"a\":\"gone.safetensors\"}}", "gone.safetensors: cannot be read"},
        {"{\"weight_map\":{\"b\":\"s.safetensors\"}}", "`b` is not in s.safetensors"},
        {"{\"weight_map\":{\"a\":\"s.safetensors\",\"a\":\"s.safetensors\"}}", "not valid JSON"},
    };
    const char header[] = "{\"a\":" T("F32", "[1]", "0", "4") "}";
    put_file("s.safetensors", header, sizeof header - 1, -1, 4);
    assert_null(crank_weights_open(context, folder));
    assert_non_null(strstr(crank_message(context), "holds neither"));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_ok(context, file_write_text(context, inside("model.safetensors.index.json"), bad[i].index));
        assert_null(crank_weights_open(context, folder));
        if (!strstr(crank_message(context), bad[i].expected)) fail_msg("%s", crank_message(context));
    }
    assert_ok(context, file_write_text(context, inside("model.safetensors.index.json"), "{\"weight_map\":{\"a\":\"s.safetensors\"}}"));
    crank_weights *weights = crank_weights_open(context, folder);
    assert_non_null(weights);
    assert_int_equal(crank_weights_count(weights), 1);
    crank_weights_close(weights);
}

static void weights_are_sharded_and_a_new_version_replaces_the_old(void **state)
{
    (void)state;
    float            values[40];
    crank_named_view tensors[4];
    const char      *names[] = {"d", "b", "c", "a"};
    for (int i = 0; i < 40; i++) values[i] = (float)i;
    for (int i = 0; i < 4; i++) tensors[i] = (crank_named_view){names[i], crank_view_make(values + 10 * i, CRANK_F32, 1, (int64_t[]){10})};
    for (uint64_t shard_bytes = 100; shard_bytes != 3; shard_bytes = shard_bytes == 100 ? 0 : shard_bytes == 0 ? 7 : 3) {
        assert_ok(context, crank_weights_write(context, inside("model"), tensors, 4, shard_bytes));
        crank_weights *weights = crank_weights_open(context, inside("model"));
        if (!weights) fail_msg("%s", crank_message(context));
        assert_int_equal(crank_weights_count(weights), 4);
        for (int i = 0; i < 4; i++) {
            crank_view view;
            assert_true(crank_weights_find(weights, names[i], &view));
            assert_memory_equal(view.data, values + 10 * i, 40);
        }
        crank_weights_close(weights);
        assert_int_equal(file_exists(inside("model/model.safetensors")), shard_bytes == 0);
        assert_int_equal(file_exists(inside("model/model.safetensors.index.json")), shard_bytes != 0);
        assert_int_equal(file_exists(inside("model/model-00002-of-00002.safetensors")), shard_bytes == 100);
        assert_int_equal(file_exists(inside("model/model-00004-of-00004.safetensors")), shard_bytes == 7);
    }
}

int main(void)
{
#define test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        test(a_file_of_the_library_reads_equal_in_every_type),
        test(names_ranks_metadata_and_foreign_types_are_kept),
        test(shards_read_as_one_set_of_names),
        test(written_files_equal_the_librarys_byte_for_byte),
        test(what_the_format_cannot_hold_is_refused_before_writing),
        test(a_file_without_tensors_is_valid),
        test(unpadded_headers_give_aligned_views),
        test(hostile_headers_are_refused_with_file_and_place),
        test(lying_header_lengths_are_refused),
        test(nested_bombs_are_refused),
        test(every_cut_and_every_changed_byte_is_refused_or_read_whole),
        test(indices_stay_in_their_folder_and_tell_what_is_missing),
        test(weights_are_sharded_and_a_new_version_replaces_the_old),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
