/* Tests of crank pull and of the hub's cache, against a hub on this machine. */
#include "testing.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/sha256.h"
#include "cli/hub_server.h"
#include "data/hub.h"

typedef struct fixture {
    hub_server     server;
    crank_context *context;
    char           folder[256], digest[65];
    char          *model, *config;
} fixture;

static const char pooling[] = "{\"pooling_mode_mean_tokens\": true}";

static void add(fixture *f, const char *name, const char *etag, bool large, const char *bytes, size_t length)
{
    f->server.files[f->server.file_count++] = (hub_file){name, etag, large, bytes, length};
}

static int start(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    size_t   model_length, config_length;
    sha256   hash;
    char     address[64];
    f->context = crank_context_new();
    f->model = file_read(f->context, golden("models/llama/model.safetensors"), &model_length);
    f->config = file_read(f->context, golden("models/llama/config.json"), &config_length);
    sha256_start(&hash);
    sha256_add(&hash, f->model, model_length);
    sha256_hex(&hash, f->digest);
    add(f, "config.json", "c0ffee", false, f->config, config_length);
    add(f, "model.safetensors", f->digest, true, f->model, model_length);
    add(f, "1_Pooling/config.json", "b00c", false, pooling, sizeof pooling - 1);
    add(f, "pytorch_model.bin", "dead", true, "pickle", 6);
    add(f, "onnx/model.onnx", "beef", true, "onnx", 4);
    strcpy(f->folder, "/tmp/crank_pull_XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    assert_true(hub_server_start(&f->server));
    snprintf(address, sizeof address, "http://127.0.0.1:%d/", f->server.port);
    setenv("HF_ENDPOINT", address, 1);
    setenv("HF_HUB_CACHE", f->folder, 1);
    setenv("no_proxy", "127.0.0.1,localhost", 1);
    unsetenv("HF_TOKEN"), unsetenv("HF_HUB_OFFLINE");
    *state = f;
    return 0;
}

static int stop(void **state)
{
    fixture *f = *state;
    hub_server_stop(&f->server);
    file_folder_remove(f->context, f->folder);
    crank_free(f->model), crank_free(f->config);
    crank_context_free(f->context);
    free(f);
    return 0;
}

static crank_status pull(fixture *f, const char *text, hub_pulled *out)
{
    hub_name name;
    assert_true(hub_parse(text, &name));
    return hub_pull(f->context, &name, -1, out);
}

static const char *in_repository(const fixture *f, const char *name)
{
    static char path[1024];
    snprintf(path, sizeof path, "%s/models--org--tiny/%s", f->folder, name);
    return path;
}

static void assert_holds(fixture *f, const char *path, const char *bytes, size_t length)
{
    size_t got;
    char  *text = file_read(f->context, path, &got);
    assert_non_null(text);
    assert_int_equal(got, length);
    assert_memory_equal(text, bytes, length);
    crank_free(text);
}

static void assert_model_is_whole(fixture *f) { assert_holds(f, in_repository(f, "snapshots/" HUB_COMMIT_A "/model.safetensors"), f->model, f->server.files[1].length); }

static void a_model_lies_in_the_cache_as_the_hub_lays_it(void **state)
{
    fixture   *f = *state;
    hub_pulled pulled;
    char       target[512];
    assert_ok(f->context, pull(f, "org/tiny", &pulled));
    assert_int_equal(pulled.files, 3);
    assert_int_equal(pulled.fetched, 3);
    assert_string_equal(pulled.commit, HUB_COMMIT_A);
    assert_string_equal(pulled.folder, in_repository(f, "snapshots/" HUB_COMMIT_A));
    crank_free(pulled.folder);
    assert_model_is_whole(f);
    assert_holds(f, in_repository(f, "refs/main"), HUB_COMMIT_A, 40);
    assert_holds(f, in_repository(f, "blobs/c0ffee"), f->config, f->server.files[0].length);
    ssize_t length = readlink(in_repository(f, "snapshots/" HUB_COMMIT_A "/1_Pooling/config.json"), target, sizeof target - 1);
    assert_true(length > 0);
    target[length] = 0;
    assert_string_equal(target, "../../../blobs/b00c");
    assert_holds(f, in_repository(f, "snapshots/" HUB_COMMIT_A "/1_Pooling/config.json"), pooling, sizeof pooling - 1);
    assert_null(strstr(f->server.log, "pytorch_model.bin"));
    assert_null(strstr(f->server.log, "onnx"));
}

static void what_is_there_is_not_fetched_again(void **state)
{
    fixture   *f = *state;
    hub_pulled pulled;
    assert_ok(f->context, pull(f, "org/tiny", &pulled));
    crank_free(pulled.folder);
    f->server.log[0] = 0;
    assert_ok(f->context, pull(f, "org/tiny", &pulled));
    crank_free(pulled.folder);
    assert_int_equal(pulled.fetched, 0);
    assert_int_equal(pulled.bytes, 0);
    assert_null(strstr(f->server.log, "GET /org/tiny"));
}

static void a_download_that_breaks_goes_on_where_it_broke(void **state)
{
    fixture   *f = *state;
    hub_pulled pulled;
    f->server.break_after = 50000;
    assert_ok(f->context, pull(f, "org/tiny", &pulled));
    crank_free(pulled.folder);
    assert_model_is_whole(f);
    assert_non_null(strstr(f->server.log, "GET /store/model.safetensors 50000\n"));
    assert_int_equal(pulled.bytes, f->server.files[0].length + f->server.files[1].length + sizeof pooling - 1);
}

static void leave_a_part(fixture *f, size_t length)
{
    char path[1200];
    assert_ok(f->context, file_make_folder(f->context, in_repository(f, "blobs")));
    snprintf(path, sizeof path, "%s/%s.incomplete", in_repository(f, "blobs"), f->digest);
    FILE *part = fopen(path, "wb");
    assert_non_null(part);
    for (size_t i = 0; i < length; i++) fputc(i < f->server.files[1].length ? f->model[i] : 0, part);
    fclose(part);
}

static void what_an_earlier_run_left_is_used(void **state)
{
    fixture   *f = *state;
    hub_pulled pulled;
    leave_a_part(f, 1000);
    assert_ok(f->context, pull(f, "org/tiny", &pulled));
    crank_free(pulled.folder);
    assert_model_is_whole(f);
    assert_non_null(strstr(f->server.log, "GET /store/model.safetensors 1000\n"));
}

static void a_part_that_is_too_long_or_whole_is_no_trouble(void **state)
{
    fixture   *f = *state;
    hub_pulled pulled;
    leave_a_part(f, f->server.files[1].length + 7);
    assert_ok(f->context, pull(f, "org/tiny", &pulled));
    crank_free(pulled.folder);
    assert_model_is_whole(f);
    assert_int_equal(unlink(in_repository(f, "snapshots/" HUB_COMMIT_A "/model.safetensors")), 0);
    char blob[1200];
    snprintf(blob, sizeof blob, "%s/%s", in_repository(f, "blobs"), f->digest);
    assert_int_equal(unlink(blob), 0);
    leave_a_part(f, f->server.files[1].length);
    f->server.log[0] = 0;
    assert_ok(f->context, pull(f, "org/tiny", &pulled));
    crank_free(pulled.folder);
    assert_model_is_whole(f);
    assert_null(strstr(f->server.log, "GET /store"));
}

static void a_server_without_ranges_sends_all_again(void **state)
{
    fixture   *f = *state;
    hub_pulled pulled;
    leave_a_part(f, 1000);
    f->server.no_ranges = true;
    assert_ok(f->context, pull(f, "org/tiny", &pulled));
    crank_free(pulled.folder);
    assert_model_is_whole(f);
}

static void wrong_bytes_are_refused_and_deleted(void **state)
{
    fixture   *f = *state;
    hub_pulled pulled;
    char       path[1200];
    f->model[f->server.files[1].length - 1] ^= 1;
    assert_int_equal(pull(f, "org/tiny", &pulled), CRANK_BAD_DATA);
    assert_non_null(strstr(crank_message(f->context), "SHA-256"));
    snprintf(path, sizeof path, "%s/%s.incomplete", in_repository(f, "blobs"), f->digest);
    assert_false(file_exists(path));
    assert_false(file_exists(in_repository(f, "refs/main")));
    assert_null(hub_resolve(f->context, "org/tiny"));
}

static void only_the_hub_sees_the_token(void **state)
{
    fixture   *f = *state;
    hub_pulled pulled;
    setenv("HF_TOKEN", "secret", 1);
    assert_ok(f->context, pull(f, "org/tiny", &pulled));
    crank_free(pulled.folder);
    assert_true(f->server.token_at_hub);
    assert_false(f->server.token_elsewhere);
}

static void a_renamed_model_is_found(void **state)
{
    fixture   *f = *state;
    hub_pulled pulled;
    assert_ok(f->context, pull(f, "old/tiny", &pulled));
    assert_non_null(strstr(pulled.folder, "models--old--tiny/snapshots/" HUB_COMMIT_A));
    crank_free(pulled.folder);
}

static void refusals_say_what_to_do(void **state)
{
    static const struct {
        int          code;
        crank_status status;
        const char  *says;
    } cases[] = {{401, CRANK_USAGE, "HF_TOKEN"}, {403, CRANK_USAGE, "terms"}, {404, CRANK_USAGE, "no such model or revision"}, {500, CRANK_FAILED, "500"}};
    fixture   *f = *state;
    hub_pulled pulled;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        f->server.refuse = cases[i].code;
        assert_int_equal(pull(f, "org/tiny", &pulled), cases[i].status);
        assert_non_null(strstr(crank_message(f->context), cases[i].says));
        assert_non_null(strstr(crank_message(f->context), "org/tiny"));
    }
}

static void a_hub_that_is_not_there_is_told(void **state)
{
    fixture   *f = *state;
    hub_pulled pulled;
    setenv("HF_ENDPOINT", "http://127.0.0.1:1", 1);
    assert_int_equal(pull(f, "org/tiny", &pulled), CRANK_FAILED);
    assert_non_null(strstr(crank_message(f->context), "proxy"));
    setenv("HF_ENDPOINT", "ftp://127.0.0.1", 1);
    assert_int_equal(pull(f, "org/tiny", &pulled), CRANK_USAGE);
}

static void offline_looks_at_the_cache_alone(void **state)
{
    fixture   *f = *state;
    hub_pulled pulled;
    setenv("HF_HUB_OFFLINE", "yes", 1);
    assert_int_equal(pull(f, "org/tiny", &pulled), CRANK_FAILED);
    assert_non_null(strstr(crank_message(f->context), "HF_HUB_OFFLINE"));
    unsetenv("HF_HUB_OFFLINE");
    assert_ok(f->context, pull(f, "org/tiny", &pulled));
    crank_free(pulled.folder);
    setenv("HF_HUB_OFFLINE", "1", 1);
    f->server.log[0] = 0;
    assert_ok(f->context, pull(f, "org/tiny", &pulled));
    assert_string_equal(pulled.commit, HUB_COMMIT_A);
    crank_free(pulled.folder);
    assert_string_equal(f->server.log, "");
}

static void pickled_models_are_refused(void **state)
{
    fixture   *f = *state;
    hub_pulled pulled;
    f->server.files[1].name = "weights.pt";
    assert_int_equal(pull(f, "org/tiny", &pulled), CRANK_BAD_DATA);
    assert_non_null(strstr(crank_message(f->context), "pickled"));
}

static void a_name_resolves_to_its_snapshot_and_a_folder_to_itself(void **state)
{
    fixture   *f = *state;
    hub_pulled pulled;
    char      *found = hub_resolve(f->context, f->folder);
    assert_string_equal(found, f->folder);
    crank_free(found);
    assert_null(hub_resolve(f->context, "org/tiny"));
    assert_non_null(strstr(crank_message(f->context), "crank pull org/tiny"));
    assert_ok(f->context, pull(f, "org/tiny@refs/pr/1", &pulled));
    crank_free(pulled.folder);
    assert_null(hub_resolve(f->context, "org/tiny"));
    const char *const names[] = {"org/tiny@refs/pr/1", "org/tiny@" HUB_COMMIT_A};
    for (int i = 0; i < 2; i++) {
        found = hub_resolve(f->context, names[i]);
        assert_non_null(found);
        assert_string_equal(found, in_repository(f, "snapshots/" HUB_COMMIT_A));
        crank_free(found);
    }
    const char *const paths[] = {"./org/tiny", "/org/tiny", "org/tiny/x", "org/../tiny", "tokenizer.json"}; /* their readers complain */
    for (int i = 0; i < 5; i++) {
        found = hub_resolve(f->context, paths[i]);
        assert_string_equal(found, paths[i]);
        crank_free(found);
    }
}

static void variables_choose_the_cache_in_the_hub_s_order(void **state)
{
    fixture    *f = *state;
    const char *const steps[][3] = {{"HF_HUB_CACHE", "/a", "/a"}, {"HF_HOME", "/b", "/b/hub"}, {"XDG_CACHE_HOME", "/c", "/c/huggingface/hub"}, {"HOME", "/d", "/d/.cache/huggingface/hub"}};
    for (int i = 0; i < 4; i++) setenv(steps[i][0], steps[i][1], 1);
    for (int i = 0; i < 4; i++) {
        char *cache = hub_cache(f->context);
        assert_string_equal(cache, steps[i][2]);
        crank_free(cache);
        unsetenv(steps[i][0]);
    }
}

static void stop_at_the_first_line(void *user, crank_level level, const char *line)
{
    (void)level;
    assert_non_null(strstr(line, "waiting"));
    crank_request_stop(user);
}

static void a_stop_is_heard_while_another_program_holds_the_blob(void **state)
{
    fixture   *f = *state;
    hub_pulled pulled;
    char       path[1200];
    snprintf(path, sizeof path, "%s/.locks/models--org--tiny", f->folder);
    assert_ok(f->context, file_make_folder(f->context, path));
    strcat(path, "/c0ffee.lock");
    int lock = open(path, O_RDWR | O_CREAT, 0644);
    assert_int_equal(flock(lock, LOCK_EX), 0);
    f->server.file_count = 2;
    crank_set_log(f->context, stop_at_the_first_line, f->context);
    assert_int_equal(pull(f, "org/tiny", &pulled), CRANK_STOPPED);
    close(lock);
}

static void the_program_pulls_and_uses_the_name(void **state)
{
    fixture *f = *state;
    char     line[1024] = "";
    if (access(CRANK_BINARY_DIR "/crank", X_OK)) skip();
    FILE *program = popen("'" CRANK_BINARY_DIR "/crank' pull org/tiny 2>/dev/null", "r");
    assert_non_null(fgets(line, sizeof line, program));
    pclose(program);
    line[strcspn(line, "\n")] = 0;
    assert_string_equal(line, in_repository(f, "snapshots/" HUB_COMMIT_A));
    assert_int_equal(system("'" CRANK_BINARY_DIR "/crank' inspect org/tiny >/dev/null"), 0);
    assert_int_equal(system("'" CRANK_BINARY_DIR "/crank' inspect org/absent 2>&1 | grep -q 'crank pull org/absent'"), 0);
}

#define WITH_HUB(test) cmocka_unit_test_setup_teardown(test, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_HUB(a_model_lies_in_the_cache_as_the_hub_lays_it),
        WITH_HUB(what_is_there_is_not_fetched_again),
        WITH_HUB(a_download_that_breaks_goes_on_where_it_broke),
        WITH_HUB(what_an_earlier_run_left_is_used),
        WITH_HUB(a_part_that_is_too_long_or_whole_is_no_trouble),
        WITH_HUB(a_server_without_ranges_sends_all_again),
        WITH_HUB(wrong_bytes_are_refused_and_deleted),
        WITH_HUB(only_the_hub_sees_the_token),
        WITH_HUB(a_renamed_model_is_found),
        WITH_HUB(refusals_say_what_to_do),
        WITH_HUB(a_hub_that_is_not_there_is_told),
        WITH_HUB(offline_looks_at_the_cache_alone),
        WITH_HUB(pickled_models_are_refused),
        WITH_HUB(a_name_resolves_to_its_snapshot_and_a_folder_to_itself),
        WITH_HUB(variables_choose_the_cache_in_the_hub_s_order),
        WITH_HUB(a_stop_is_heard_while_another_program_holds_the_blob),
        WITH_HUB(the_program_pulls_and_uses_the_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
