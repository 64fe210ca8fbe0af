/* jinja_tests.c - what may stand behind `is`: types, comparisons, parity, membership. */
#include <math.h>

#include "data/jinja_filter.h"

#define TEST(function)                                                                                                 \
    static jinja_value test_##function(jinja_state *state, jinja_value self, jinja_value *slots, const jinja_arguments *all)

TEST(defined) { UNUSED; return jinja_bool(self.kind != JINJA_UNDEFINED); }
TEST(undefined) { UNUSED; return jinja_bool(self.kind == JINJA_UNDEFINED); }
TEST(none) { UNUSED; return jinja_bool(self.kind == JINJA_NONE); }
TEST(boolean) { UNUSED; return jinja_bool(self.kind == JINJA_BOOL); }
TEST(true) { UNUSED; return jinja_bool(self.kind == JINJA_BOOL && self.boolean); }
TEST(false) { UNUSED; return jinja_bool(self.kind == JINJA_BOOL && !self.boolean); }
TEST(integer) { UNUSED; return jinja_bool(self.kind == JINJA_INT); }
TEST(float) { UNUSED; return jinja_bool(self.kind == JINJA_FLOAT); }
TEST(number) { UNUSED; return jinja_bool(self.kind >= JINJA_BOOL && self.kind <= JINJA_FLOAT); }
TEST(string) { UNUSED; return jinja_bool(self.kind == JINJA_STRING); }
TEST(mapping) { UNUSED; return jinja_bool(self.kind == JINJA_DICT); }
TEST(iterable) { UNUSED; return jinja_bool(jinja_iterable(&self) || self.kind == JINJA_LOOP); }
TEST(callable) { UNUSED; return jinja_bool(self.kind >= JINJA_LOOP || self.kind == JINJA_UNDEFINED); }
TEST(escaped) { UNUSED; return jinja_bool(self.kind == JINJA_STRING && self.flag); }
TEST(filter) { UNUSED; return jinja_bool(self.kind == JINJA_STRING && jinja_find_filter(self)); }
TEST(test) { UNUSED; return jinja_bool(self.kind == JINJA_STRING && jinja_find_test(self)); }
TEST(in) { UNUSED; return jinja_bool(jinja_contains(state, &slots[0], &self)); }

/* What has a length and items by index or key. */
TEST(sequence)
{
    UNUSED;
    return jinja_bool(self.kind == JINJA_UNDEFINED || (self.kind >= JINJA_STRING && self.kind <= JINJA_RANGE));
}

TEST(lower)
{
    UNUSED;
    return jinja_bool(jinja_all(jinja_str(state, &self), JINJA_ISLOWER));
}
TEST(upper)
{
    UNUSED;
    return jinja_bool(jinja_all(jinja_str(state, &self), JINJA_ISUPPER));
}

/* The same object: equal small values are one in Python, containers only themselves. */
TEST(sameas)
{
    UNUSED;
    if (self.kind != slots[0].kind) return jinja_bool(false);
    if (self.kind >= JINJA_LIST && self.kind != JINJA_VIEW) return jinja_bool(self.list == slots[0].list);
    return jinja_bool(jinja_equal(state, &self, &slots[0]));
}

static jinja_value remainder_is(jinja_state *state, jinja_value value, jinja_value divisor, int64_t wanted)
{
    jinja_value rest = jinja_arithmetic(state, OP_MODULO, value, divisor), target = jinja_int(wanted);
    return jinja_bool(jinja_equal(state, &rest, &target));
}
TEST(odd) { UNUSED; return remainder_is(state, self, jinja_int(2), 1); }
TEST(even) { UNUSED; return remainder_is(state, self, jinja_int(2), 0); }
TEST(divisibleby) { UNUSED; return remainder_is(state, self, slots[0], 0); }

TEST(eq) { UNUSED; return jinja_bool(jinja_relation(state, OP_EQUAL, &self, &slots[0])); }
TEST(ne) { UNUSED; return jinja_bool(jinja_relation(state, OP_NOT_EQUAL, &self, &slots[0])); }
TEST(lt) { UNUSED; return jinja_bool(jinja_relation(state, OP_LESS, &self, &slots[0])); }
TEST(le) { UNUSED; return jinja_bool(jinja_relation(state, OP_LESS_EQUAL, &self, &slots[0])); }
TEST(gt) { UNUSED; return jinja_bool(jinja_relation(state, OP_GREATER, &self, &slots[0])); }
TEST(ge) { UNUSED; return jinja_bool(jinja_relation(state, OP_GREATER_EQUAL, &self, &slots[0])); }

static const jinja_builtin tests[] = {
    {"!=", "other", 1, test_ne},
    {"<", "other", 1, test_lt},
    {"<=", "other", 1, test_le},
    {"==", "other", 1, test_eq},
    {">", "other", 1, test_gt},
    {">=", "other", 1, test_ge},
    {"boolean", "", 0, test_boolean},
    {"callable", "", 0, test_callable},
    {"defined", "", 0, test_defined},
    {"divisibleby", "num", 1, test_divisibleby},
    {"eq", "other", 1, test_eq},
    {"equalto", "other", 1, test_eq},
    {"escaped", "", 0, test_escaped},
    {"even", "", 0, test_even},
    {"false", "", 0, test_false},
    {"filter", "", 0, test_filter},
    {"float", "", 0, test_float},
    {"ge", "other", 1, test_ge},
    {"greaterthan", "other", 1, test_gt},
    {"gt", "other", 1, test_gt},
    {"in", "seq", 1, test_in},
    {"integer", "", 0, test_integer},
    {"iterable", "", 0, test_iterable},
    {"le", "other", 1, test_le},
    {"lessthan", "other", 1, test_lt},
    {"lower", "", 0, test_lower},
    {"lt", "other", 1, test_lt},
    {"mapping", "", 0, test_mapping},
    {"ne", "other", 1, test_ne},
    {"none", "", 0, test_none},
    {"number", "", 0, test_number},
    {"odd", "", 0, test_odd},
    {"sameas", "other", 1, test_sameas},
    {"sequence", "", 0, test_sequence},
    {"string", "", 0, test_string},
    {"test", "", 0, test_test},
    {"true", "", 0, test_true},
    {"undefined", "", 0, test_undefined},
    {"upper", "", 0, test_upper},
    {0},
};

const jinja_builtin *jinja_find_test(jinja_value name) { return jinja_find_in(tests, name); }
