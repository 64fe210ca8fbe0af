/* test_sha256.c - the digests of FIPS 180-4's examples, whole and in pieces. */
#include "base/sha256.h"
#include "testing.h"

static void digests_equal_the_published_ones(void **unused)
{
    (void)unused;
    static const struct {
        const char *text, *hex;
    } known[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        sha256 hash;
        char hex[65];
        sha256_start(&hash);
        sha256_add(&hash, known[i].text, strlen(known[i].text));
        sha256_hex(&hash, hex);
        assert_string_equal(hex, known[i].hex);
    }
}

static void pieces_give_the_digest_of_the_whole(void **unused)
{
    (void)unused;
    static char million[1000000];
    memset(million, 'a', sizeof million);
    for (size_t piece = 1; piece < 200; piece += 33) {
        sha256 hash;
        char hex[65];
        sha256_start(&hash);
        for (size_t i = 0; i < sizeof million; i += piece)
            sha256_add(&hash, million + i, i + piece <= sizeof million ? piece : sizeof million - i);
        sha256_hex(&hash, hex);
        assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(digests_equal_the_published_ones),
                                       cmocka_unit_test(pieces_give_the_digest_of_the_whole)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
