/* A tokenizer.json that is not one is refused with the file's name and the reason; what loads never runs away. */
#include "tokenizer_golden.h"

typedef struct bad_file {
    const char *text, *reason; /* a part of the message */
} bad_file;

#define MODEL         "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}"
#define WITH(part)    "{" part "," MODEL "}"
#define BPE(inside)   "{\"model\":{\"type\":\"BPE\"," inside "}}"
#define VOCAB         "\"vocab\":{\"a\":0,\"b\":1,\"ab\":2}"
#define PIECE(inside) "{\"model\":{\"type\":\"WordPiece\"," inside "}}"
#define GRAM(inside)  "{\"model\":{\"type\":\"Unigram\"," inside "}}"
#define ADDED(inside) WITH("\"added_tokens\":[{" inside "}]")
#define FLAGS         "\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":true"
#define SPLIT(pattern)                                                                                                 \
    WITH("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":" pattern ",\"behavior\":\"Isolated\",\"invert\":false}")
#define REGEX(text)  SPLIT("{\"Regex\":\"" text "\"}")
#define POST(inside) WITH("\"post_processor\":{" inside "}")

static const bad_file bad_files[] = {
    /* the file as a whole */
    {"", "not valid JSON"},
    {"{", "not valid JSON"},
    {"null", "not a JSON object"},
    {"[]", "not a JSON object"},
    {"7", "not a JSON object"},
    {"\"text\"", "not a JSON object"},
    {"{}", "model"},
    {"{\"model\":null}", "model"},
    {"{\"model\":[]}", "model"},
    {"{\"model\":{}}", "unk_token"},
    {"{\"model\":{\"type\":\"GPT\"}}", "GPT"},
    {"{\"a\":1,\"a\":2}", "duplicate"},
    {"\xff\xfe{}", "not valid JSON"},
    {"{\"\xc0\xaf\":1}", "not valid JSON"},
    {"{\"model\":\"\\u0000\"}", "not valid JSON"},
    {WITH("\"version\":\"2.0\""), "version"},
    {WITH("\"version\":1"), "version"},
    /* vocabularies of BPE */
    {BPE("\"merges\":[]"), "vocab"},
    {BPE("\"vocab\":[],\"merges\":[]"), "vocab"},
    {BPE("\"vocab\":{\"a\":\"0\"},\"merges\":[]"), "`a`"},
    {BPE("\"vocab\":{\"a\":-1},\"merges\":[]"), "`a`"},
    {BPE("\"vocab\":{\"a\":0.5},\"merges\":[]"), "`a`"},
    {BPE("\"vocab\":{\"a\":null},\"merges\":[]"), "`a`"},
    {BPE("\"vocab\":{\"a\":4000000000},\"merges\":[]"), "4000000000"},
    {BPE("\"vocab\":{\"a\":70000},\"merges\":[]"), "70000"},
    {BPE("\"vocab\":{\"a\":1e30},\"merges\":[]"), "`a`"},
    {BPE("\"vocab\":{\"a\":99999999999999999999},\"merges\":[]"), "`a`"},
    {BPE("\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]"), "same id"},
    {BPE("\"vocab\":{\"a\":0,\"a\":1},\"merges\":[]"), "duplicate"},
    /* merges */
    {BPE(VOCAB), "merges"},
    {BPE(VOCAB ",\"merges\":{}"), "merges"},
    {BPE(VOCAB ",\"merges\":[7]"), "number 1"},
    {BPE(VOCAB ",\"merges\":[\"a b\",\"ab\"]"), "number 2"},
    {BPE(VOCAB ",\"merges\":[\"a b c\"]"), "number 1"},
    {BPE(VOCAB ",\"merges\":[[\"a\"]]"), "number 1"},
    {BPE(VOCAB ",\"merges\":[[\"a\",\"b\",\"a\"]]"), "number 1"},
    {BPE(VOCAB ",\"merges\":[[\"a\",1]]"), "number 1"},
    {BPE(VOCAB ",\"merges\":[\"a c\"]"), "`c`"},
    {BPE(VOCAB ",\"merges\":[\"x b\"]"), "`x b`"},
    {BPE(VOCAB ",\"merges\":[\"b a\"]"), "`b` and `a`"},
    {BPE(VOCAB ",\"merges\":[\" b\"]"), "not in the vocabulary"},
    {BPE(VOCAB ",\"merges\":[null]"), "number 1"},
    {BPE(VOCAB ",\"merges\":[\"a b\"],\"continuing_subword_prefix\":\"####\""), "not in the vocabulary"},
    /* options of BPE */
    {BPE(VOCAB ",\"merges\":[],\"dropout\":0.1"), "dropout"},
    {BPE(VOCAB ",\"merges\":[],\"dropout\":\"x\""), "dropout"},
    {BPE(VOCAB ",\"merges\":[],\"fuse_unk\":1"), "fuse_unk"},
    {BPE(VOCAB ",\"merges\":[],\"byte_fallback\":\"yes\""), "byte_fallback"},
    {BPE(VOCAB ",\"merges\":[],\"ignore_merges\":[]"), "ignore_merges"},
    {BPE(VOCAB ",\"merges\":[],\"unk_token\":7"), "unk_token"},
    {BPE(VOCAB ",\"merges\":[],\"end_of_word_suffix\":{}"), "end_of_word_suffix"},
    {BPE(VOCAB ",\"merges\":[],\"end_of_word_suffix\":"
               "\"0123456789012345678901234567890123456789012345678901234567890123456789\""),
     "64 bytes"},
    /* other models */
    {PIECE("\"vocab\":{}"), "unk_token"},
    {PIECE("\"unk_token\":\"u\",\"vocab\":{}"), "continuing_subword_prefix"},
    {PIECE("\"unk_token\":\"u\",\"continuing_subword_prefix\":\"#\",\"vocab\":{}"), "max_input_chars_per_word"},
    {PIECE("\"unk_token\":\"u\",\"continuing_subword_prefix\":\"#\",\"max_input_chars_per_word\":-1,\"vocab\":{}"),
     "max_input_chars_per_word"},
    {PIECE("\"unk_token\":\"u\",\"continuing_subword_prefix\":\"#\",\"max_input_chars_per_word\":9,\"vocab\":[\"a\"]"),
     "vocab"},
    {GRAM("\"unk_id\":0"), "vocab"},
    {GRAM("\"vocab\":{}"), "vocab"},
    {GRAM("\"vocab\":[[\"a\"]]"), "entry 0"},
    {GRAM("\"vocab\":[[\"a\",0],[1,2]]"), "entry 1"},
    {GRAM("\"vocab\":[[\"a\",0]],\"unk_id\":1"), "unk_id"},
    {GRAM("\"vocab\":[[\"a\",0]],\"unk_id\":-1"), "unk_id"},
    {GRAM("\"vocab\":[],\"unk_id\":0"), "unk_id"},
    {GRAM("\"vocab\":[[\"a\",\"0\"]]"), "entry 0"},
    {GRAM("\"vocab\":[[\"a\",0]],\"byte_fallback\":0"), "byte_fallback"},
    /* components by name and type */
    {WITH("\"normalizer\":7"), "normalizer"},
    {WITH("\"normalizer\":{}"), "type"},
    {WITH("\"normalizer\":{\"type\":\"Magic\"}"), "Magic"},
    {WITH("\"normalizer\":{\"type\":\"Sequence\"}"), "normalizers"},
    {WITH("\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[null]}"), "normalizer"},
    {WITH("\"normalizer\":{\"type\":\"Strip\"}"), "strip_left"},
    {WITH("\"normalizer\":{\"type\":\"BertNormalizer\"}"), "clean_text"},
    {WITH("\"normalizer\":{\"type\":\"Prepend\"}"), "prepend"},
    {WITH("\"normalizer\":{\"type\":\"Replace\",\"content\":\"\"}"), "pattern"},
    {WITH("\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"}}"), "content"},
    {WITH("\"normalizer\":{\"type\":\"Precompiled\"}"), "precompiled_charsmap"},
    {WITH("\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"!!\"}"), "base64"},
    {WITH("\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"\"}"), "0 bytes"},
    {WITH("\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"/////w==\"}"), "trie of 4294967295"},
    {WITH("\"pre_tokenizer\":{\"type\":\"UnicodeScripts\"}"), "UnicodeScripts"},
    {WITH("\"pre_tokenizer\":{\"type\":7}"), "type"},
    {WITH("\"pre_tokenizer\":{\"type\":\"ByteLevel\"}"), "add_prefix_space"},
    {WITH("\"pre_tokenizer\":{\"type\":\"Digits\"}"), "individual_digits"},
    {WITH("\"pre_tokenizer\":{\"type\":\"Punctuation\",\"behavior\":\"Other\"}"), "behavior"},
    {WITH("\"pre_tokenizer\":{\"type\":\"Metaspace\"}"), "replacement"},
    {WITH("\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"ab\"}"), "one character"},
    {WITH("\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"last\"}"),
     "prepend_scheme"},
    {WITH("\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"always\",\"add_prefix_"
          "space\":false}"),
     "add_prefix_space"},
    {WITH("\"pre_tokenizer\":{\"type\":\"CharDelimiterSplit\",\"delimiter\":\"\"}"), "delimiter"},
    {WITH("\"pre_tokenizer\":{\"type\":\"FixedLength\",\"length\":0}"), "length"},
    {WITH("\"decoder\":{\"type\":\"Magic\"}"), "Magic"},
    {WITH("\"decoder\":{\"type\":\"WordPiece\"}"), "prefix"},
    {WITH("\"decoder\":{\"type\":\"Strip\",\"content\":\" \",\"start\":-1,\"stop\":0}"), "start"},
    {WITH("\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Fuse\"},{\"type\":\"Replace\"}]}"), "pattern"},
    {WITH("\"decoder\":[]"), "decoder"},
    /* expressions */
    {SPLIT("7"), "pattern"},
    {SPLIT("{}"), "pattern"},
    {SPLIT("{\"Glob\":\"*\"}"), "pattern"},
    {SPLIT("{\"Regex\":7}"), "pattern"},
    {REGEX("("), "not closed"},
    {REGEX(")"), "too many"},
    {REGEX("["), "not closed"},
    {REGEX("[]"), "not closed"},
    {REGEX("*"), "repeat"},
    {REGEX("a{99999}"), "number too big"},
    {REGEX("[z-a]"), "backwards"},
    {REGEX("\\\\p{Nonsense}"), "nonsense"},
    {REGEX("\\\\p{"), "closed"},
    {REGEX("\\\\"), "too early"},
    {REGEX("(?~a)"), "unknown option"},
    {REGEX("(*FAIL)"), "(*"},
    {REGEX("(?P<n>a)"), "unknown option"},
    {REGEX("(?<>a)"), "name"},
    {REGEX("\\\\x{110000}"), "code of a character"},
    {REGEX("\\\\xFF"), "byte"},
    {REGEX("(?<=a+)b"), "lookbehind"},
    {REGEX("\\\\k<x>"), "not known"},
    {REGEX("[[:nope:]]"), "POSIX"},
    {REGEX("((((a{1,999}){1,999}){1,999}){1,999})"), "too large"},
    {REGEX("[a&&]"), "empty set"},
    {SPLIT("{\"Regex\":\"a\"},\"invert\":1"), "duplicate"},
    /* added tokens */
    {WITH("\"added_tokens\":{}"), "added_tokens"},
    {WITH("\"added_tokens\":[7]"), "added token 0"},
    {ADDED("\"content\":\"x\"," FLAGS), "id"},
    {ADDED("\"id\":3," FLAGS), "content"},
    {ADDED("\"id\":3,\"content\":\"x\""), "single_word"},
    {ADDED("\"id\":-3,\"content\":\"x\"," FLAGS), "id"},
    {ADDED("\"id\":9000000000,\"content\":\"x\"," FLAGS), "id"},
    {ADDED("\"id\":2000000000,\"content\":\"x\"," FLAGS), "makes it 3"},
    {ADDED("\"id\":0,\"content\":\"x\"," FLAGS), "token `a`"},
    {ADDED("\"id\":1,\"content\":\"a\"," FLAGS), "makes it 0"},
    {ADDED("\"id\":3,\"content\":\"x\"," FLAGS "},{\"id\":3,\"content\":\"y\"," FLAGS), "makes it 4"},
    {ADDED("\"id\":3,\"content\":\"x\"," FLAGS "},{\"id\":4,\"content\":\"x\"," FLAGS), "makes it 3"},
    /* post-processors */
    {POST("\"type\":\"Magic\""), "Magic"},
    {POST("\"type\":\"BertProcessing\""), "cls"},
    {POST("\"type\":\"BertProcessing\",\"cls\":[\"c\",1],\"sep\":[1]"), "sep"},
    {POST("\"type\":\"BertProcessing\",\"cls\":[\"c\",-1],\"sep\":[\"s\",1]"), "cls"},
    {POST("\"type\":\"TemplateProcessing\""), "single"},
    {POST("\"type\":\"TemplateProcessing\",\"single\":[{}],\"pair\":[]"), "piece 1"},
    {POST("\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"B\",\"type_id\":0}}],\"pair\":[]"),
     "names B"},
    {POST("\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"C\",\"type_id\":0}}],\"pair\":[]"),
     "A or B"},
    {POST("\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"s\",\"type_id\":0}}],\"pair\":[],"
          "\"special_tokens\":{}"),
     "`s`"},
    {POST("\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"s\",\"type_id\":0}}],\"pair\":[],"
          "\"special_tokens\":{\"s\":{\"ids\":[-1]}}"),
     "`s`"},
    {POST("\"type\":\"Sequence\",\"processors\":[{\"type\":\"BertProcessing\",\"cls\":[\"c\",1],\"sep\":[\"s\",1]},{"
          "\"type\":\"BertProcessing\",\"cls\":[\"c\",1],\"sep\":[\"s\",1]}]"),
     "second"},
    {POST("\"type\":\"RobertaProcessing\",\"cls\":[\"c\",1],\"sep\":[\"s\",1]"), "trim_offsets"},
    {POST("\"type\":\"ByteLevel\",\"trim_offsets\":0"), "trim_offsets"},
};
#define BAD_COUNT (sizeof bad_files / sizeof bad_files[0])

typedef struct scratch_file {
    char path[64];
} scratch_file;

static scratch_file write_scratch(const char *text, size_t length, const char *ending)
{
    scratch_file file;
    snprintf(file.path, sizeof file.path, "/tmp/crank-hostile-XXXXXX%s", ending);
    int descriptor = mkstemps(file.path, (int)strlen(ending));
    assert_int_equal(write(descriptor, text, length), length);
    close(descriptor);
    return file;
}

static void assert_refused(crank_context *context, const char *text, size_t length, const char *ending,
                           const char *reason)
{
    scratch_file file = write_scratch(text, length, ending);
    crank_clear(context);
    crank_tokenizer *tokenizer = crank_tokenizer_load(context, file.path);
    unlink(file.path);
    if (tokenizer) fail_msg("loaded: %.200s", text);
    if (crank_last_status(context) != CRANK_BAD_DATA || !strstr(crank_message(context), file.path) ||
        !strstr(crank_message(context), reason))
        fail_msg("%.200s\ngives: %s\nnot: %s ... %s", text, crank_message(context), file.path, reason);
}

static void bad_files_are_refused_with_name_and_reason(void **state)
{
    (void)state;
    assert_true(BAD_COUNT >= 100);
    crank_context *context = crank_context_new();
    for (size_t i = 0; i < BAD_COUNT; i++)
        assert_refused(context, bad_files[i].text, strlen(bad_files[i].text), ".json", bad_files[i].reason);
    crank_context_free(context);
}

static void cut_files_are_refused(void **state)
{
    (void)state;
    crank_context *context = crank_context_new();
    size_t length;
    char *text = golden_text(context, "llama3", ".json", &length);
    for (size_t i = 0; i < 60; i++) assert_refused(context, text, length * i / 60, ".json", "not valid JSON");
    crank_free(text);
    crank_context_free(context);
}

/* `open` n times, `middle`, `close` n times. */
static char *nested(const char *before, const char *open, const char *middle, const char *close, const char *behind,
                    size_t n)
{
    char *text = malloc(strlen(before) + n * (strlen(open) + strlen(close)) + strlen(middle) + strlen(behind) + 1),
         *at = text;
    at = stpcpy(at, before);
    for (size_t i = 0; i < n; i++) at = stpcpy(at, open);
    at = stpcpy(at, middle);
    for (size_t i = 0; i < n; i++) at = stpcpy(at, close);
    strcpy(at, behind);
    return text;
}

static void deep_nesting_is_refused(void **state)
{
    (void)state;
    crank_context *context = crank_context_new();
    const struct {
        const char *before, *open, *middle, *close, *behind, *reason;
        size_t depth;
    } cases[] = {
        {"", "[", "", "]", "", "not valid JSON", 100000},
        {"{\"model\":", "{\"a\":", "0", "}", "}", "not valid JSON", 100000},
        {"{" MODEL ",\"normalizer\":", "{\"type\":\"Sequence\",\"normalizers\":[", "", "]}", "}", "Sequence", 40},
        {"{" MODEL ",\"pre_tokenizer\":", "{\"type\":\"Sequence\",\"pretokenizers\":[", "", "]}", "}", "Sequence", 40},
        {"{" MODEL
         ",\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Isolated\",\"invert\":false,\"pattern\":{\"Regex\":\"",
         "(", "a", ")", "\"}}}", "nested", 5000},
        {"{" MODEL
         ",\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Isolated\",\"invert\":false,\"pattern\":{\"Regex\":\"",
         "[a", "a", "]", "\"}}}", "nested", 5000},
        {"{" MODEL
         ",\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Isolated\",\"invert\":false,\"pattern\":{\"Regex\":\"",
         "a", "a", "a", "\"}}}", "65536", 50000},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *text =
            nested(cases[i].before, cases[i].open, cases[i].middle, cases[i].close, cases[i].behind, cases[i].depth);
        assert_refused(context, text, strlen(text), ".json", cases[i].reason);
        free(text);
    }
    crank_context_free(context);
}

static void broken_vocab_txt_is_refused(void **state)
{
    (void)state;
    crank_context *context = crank_context_new();
    assert_refused(context, "", 0, ".txt", "no BERT vocabulary");
    assert_refused(context, "[UNK]\n[CLS]\nword\n", 17, ".txt", "[SEP]");
    assert_refused(context, "[UNK]\n[CLS]\n[SEP]\nword\nword\n", 28, ".txt", ":5: `word` stands twice");
    assert_refused(context, "[UNK]\n[CLS]\n[SEP]\n\xff\xfe\n", 21, ".txt", ":4: not UTF-8");
    assert_refused(context, "[UNK]\n[CLS]\n[SEP]\na\0b\n", 22, ".txt", ":4: not UTF-8");
    crank_context_free(context);
}

static crank_tokenizer *load_text(crank_context *context, const char *text)
{
    scratch_file file = write_scratch(text, strlen(text), ".json");
    crank_tokenizer *tokenizer = crank_tokenizer_load(context, file.path);
    unlink(file.path);
    if (!tokenizer) fail_msg("%s", crank_message(context));
    return tokenizer;
}

static void endless_backtracking_is_an_error(void **state)
{
    (void)state;
    crank_context *context = crank_context_new();
    const char *const texts[] = {REGEX("(a+)+$"), REGEX("(a|a)*b"), REGEX("(?<x>a+|aa)+(?=b)"), REGEX("(.*)*\\\\1y")};
    char word[400];
    memset(word, 'a', sizeof word);
    word[sizeof word - 1] = '!';
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        crank_tokenizer *tokenizer = load_text(context, texts[i]);
        crank_ids ids;
        crank_status status = crank_encode(context, tokenizer, word, sizeof word, NULL, 0, 0, &ids);
        assert_true(status == CRANK_OK || status == CRANK_BAD_DATA);
        if (i == 0) assert_int_equal(status, CRANK_BAD_DATA);
        assert_true(status == CRANK_OK || strstr(crank_message(context), "regular expression"));
        assert_true(status == CRANK_OK || (!ids.ids && !ids.count));
        crank_ids_free(&ids);
        crank_tokenizer_free(tokenizer);
    }
    crank_context_free(context);
}

/* A merge that gives back its own left side, and one that goes in a circle, still come to an end. */
static void circular_merges_end(void **state)
{
    (void)state;
    crank_context *context = crank_context_new();
    const char *const texts[] = {BPE(VOCAB ",\"merges\":[\"a b\"],\"continuing_subword_prefix\":\"b\""),
                                 BPE("\"vocab\":{\"a\":0,\"aa\":1,\"aaa\":2,\"aaaa\":3},\"merges\":[\"a a\",\"aa "
                                     "aa\",\"aa a\",\"a aa\",\"aaa a\"]")};
    char word[2000];
    for (size_t i = 0; i < sizeof word; i++) word[i] = i % 2 ? 'b' : 'a';
    for (size_t i = 0; i < 2; i++) {
        crank_tokenizer *tokenizer = load_text(context, texts[i]);
        crank_ids ids = encode(context, tokenizer, word, sizeof word, 0);
        assert_true(ids.count <= sizeof word);
        crank_ids_free(&ids);
        crank_tokenizer_free(tokenizer);
        memset(word, 'a', sizeof word);
    }
    crank_context_free(context);
}

static void characters_without_a_token_are_told_when_unknown_is_missing(void **state)
{
    (void)state;
    crank_context *context = crank_context_new();
    const char *const texts[] = {BPE(VOCAB ",\"merges\":[],\"unk_token\":\"<unk>\""),
                                 GRAM("\"vocab\":[[\"a\",0]],\"unk_id\":null"),
                                 PIECE("\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##\",\"max_input_chars_"
                                       "per_word\":9,\"vocab\":{\"a\":0}")};
    for (size_t i = 0; i < 3; i++) {
        crank_tokenizer *tokenizer = load_text(context, texts[i]);
        crank_ids ids = encode(context, tokenizer, "a", 1, 0);
        assert_int_equal(ids.count, 1);
        crank_ids_free(&ids);
        assert_int_equal(crank_encode(context, tokenizer, "xyz", 3, NULL, 0, 0, &ids), CRANK_BAD_DATA);
        assert_null(ids.ids);
        crank_tokenizer_free(tokenizer);
    }
    crank_context_free(context);
}

static void long_runs_stay_within_the_limits(void **state)
{
    (void)state;
    crank_context *context = crank_context_new();
    size_t length = 200000;
    char *text = malloc(length);
    for (int k = 0; k < 6; k++) {
        crank_tokenizer *tokenizer = golden_tokenizer(context, tokenizer_kinds[k]);
        static const char fill[] = {' ', '\n', 'a'};
        for (size_t i = 0; i < sizeof fill; i++) {
            memset(text, fill[i], length);
            text[length - 1] = '!';
            crank_ids ids = encode(context, tokenizer, text, length, 0);
            assert_true(ids.count > 0);
            crank_ids_free(&ids);
        }
        crank_tokenizer_free(tokenizer);
    }
    free(text);
    crank_context_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_files_are_refused_with_name_and_reason),
        cmocka_unit_test(cut_files_are_refused),
        cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(broken_vocab_txt_is_refused),
        cmocka_unit_test(endless_backtracking_is_an_error),
        cmocka_unit_test(circular_merges_end),
        cmocka_unit_test(characters_without_a_token_are_told_when_unknown_is_missing),
        cmocka_unit_test(long_runs_stay_within_the_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
